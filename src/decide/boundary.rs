//! The filters of a model, asked for once, and which event goes to which part.

use super::projection::{DecisionModel, Parts};
use crate::{Error, Event, Filter, Result, filter::Subject};

/// The filter of each part, and their union.
#[derive(Debug)]
pub(super) struct Boundary {
    filters: Vec<Filter>,
    union: Filter,
}

impl Boundary {
    pub(super) fn of(model: &mut impl DecisionModel) -> Result<Self> {
        let filters = Parts::of(model).filters()?;
        let union = Filter::union(filters.iter().cloned())?;
        Ok(Self { filters, union })
    }

    /// What is read, and what must not have changed.
    pub(super) fn filter(&self) -> &Filter {
        &self.union
    }

    /// Applies an event to those parts that it concerns.
    pub(super) fn apply(&self, model: &mut impl DecisionModel, event: &Event) -> Result<()> {
        self.apply_to(&mut Parts::of(model), event)
    }

    /// The same for many.
    pub(super) fn apply_all<'e>(
        &self,
        model: &mut impl DecisionModel,
        events: impl IntoIterator<Item = &'e Event>,
    ) -> Result<()> {
        let mut parts = Parts::of(model);
        events.into_iter().try_for_each(|event| self.apply_to(&mut parts, event))
    }

    pub(super) fn apply_to(&self, parts: &mut Parts<'_>, event: &Event) -> Result<()> {
        if parts.len() != self.filters.len() {
            return Err(Error::invalid_input(format!(
                "the decision model lists {} parts, and listed {} before the events were read; the number must not depend \
                 on its state",
                parts.len(),
                self.filters.len()
            )));
        }
        let subject = Subject::from(event);
        for (part, filter) in parts.iter_mut().zip(&self.filters) {
            if filter.matches_subject(&subject) {
                part.apply(event)?;
            }
        }
        Ok(())
    }
}
