//! The filters of a model, requested once, and which event goes to which part.

use super::projection::{DecisionModel, Parts};
use crate::{Error, Event, Filter, Result, SnapshotKey, filter::Subject, json::quoted};

/// The filter of each part, and their union.
#[derive(Debug)]
pub(super) struct Boundary {
    filters: Vec<Filter>,
    /// Of the collections among the parts.
    lengths: Vec<usize>,
    union: Filter,
}

impl Boundary {
    pub(super) fn of(model: &mut impl DecisionModel) -> Result<Self> {
        let parts = Parts::of(model);
        let (filters, lengths) = (parts.filters()?, parts.lengths().to_vec());
        let union = Filter::union(filters.iter().cloned())?;
        Ok(Self { filters, lengths, union })
    }

    /// Returns the filter of what is read, and of what must not have changed.
    pub(super) fn filter(&self) -> &Filter {
        &self.union
    }

    pub(super) fn snapshot_key(&self, name: &str, version: u32) -> SnapshotKey {
        SnapshotKey::of_parts(name, version, &self.union, &self.filters, &self.lengths)
    }

    /// Applies an event that was read for the model to the parts that it concerns.
    pub(super) fn apply(&self, model: &mut impl DecisionModel, event: &Event) -> Result<()> {
        self.apply_to(&mut Parts::of(model), event)
    }

    /// Applies several events.
    pub(super) fn apply_all<'e>(
        &self,
        model: &mut impl DecisionModel,
        events: impl IntoIterator<Item = &'e Event>,
    ) -> Result<()> {
        let mut parts = Parts::of(model);
        events.into_iter().try_for_each(|event| self.apply_to(&mut parts, event))
    }

    /// Applies events from any source, some of which may concern no part.
    pub(super) fn replay<'e>(
        &self,
        model: &mut impl DecisionModel,
        events: impl IntoIterator<Item = &'e Event>,
    ) -> Result<()> {
        let mut parts = Parts::of(model);
        events.into_iter().try_for_each(|event| self.offer(&mut parts, event).map(drop))
    }

    /// As [`apply`](Self::apply), for a caller that already has the parts.
    pub(super) fn apply_to(&self, parts: &mut Parts<'_>, event: &Event) -> Result<()> {
        if self.offer(parts, event)? {
            return Ok(());
        }
        // The condition would cover the read, but the event that it found would be in no part.
        Err(Error::invalid_data(format!(
            "the store gives the event of type {} at position {} for the filters of a decision model, and none of them matches it here: \
             was it written by something else than the library?",
            quoted(event.event_type()),
            event.position()
        )))
    }

    /// Whether any part is concerned.
    fn offer(&self, parts: &mut Parts<'_>, event: &Event) -> Result<bool> {
        if parts.len() != self.filters.len() {
            return Err(Error::invalid_input(format!(
                "the decision model lists {} parts, and listed {} before the events were read; the number must not depend \
                 on its state",
                parts.len(),
                self.filters.len()
            )));
        }
        let subject = Subject::from(event);
        let mut concerns_one = false;
        for (part, filter) in parts.iter_mut().zip(&self.filters) {
            if filter.matches_subject(&subject) {
                concerns_one = true;
                part.apply(event)?;
            }
        }
        Ok(concerns_one)
    }
}
