//! What the router tells of its decisions and calls, on this thread.

use std::{
    collections::BTreeMap,
    fmt::Debug,
    sync::{Arc, Mutex},
};

use tracing::{
    Dispatch, Event, Level, Metadata, Subscriber,
    field::{Field, Visit},
    span::{Attributes, Id, Record},
    subscriber::{DefaultGuard, set_default},
};

/// Keeps the events of the library's targets.
#[derive(Clone)]
pub(crate) struct Records {
    most: Level,
    kept: Arc<Mutex<Vec<Told>>>,
}

/// One of them.
#[derive(Clone, Debug)]
pub(crate) struct Told {
    pub(crate) target: String,
    pub(crate) fields: BTreeMap<String, String>,
}

impl Told {
    /// The value of a field, empty if it has none.
    pub(crate) fn get(&self, name: &str) -> &str {
        self.fields.get(name).map_or("", |value| value)
    }

    pub(crate) fn number(&self, name: &str) -> f64 {
        self.get(name).parse().unwrap_or_else(|_| panic!("{name} of {self:?}"))
    }
}

impl Records {
    /// Keeps those of this level, and of more important ones, until the guards are dropped.
    pub(crate) fn keep(most: Level) -> (Self, (DefaultGuard, Dispatch)) {
        let records = Self { most, kept: Arc::default() };
        // With one subscriber only, other threads, which have none, would switch places in the code off for us too.
        let second = Dispatch::new(records.clone());
        (records.clone(), (set_default(records), second))
    }

    /// Those of this target since the last time.
    pub(crate) fn take(&self, target: &str) -> Vec<Told> {
        let mut kept = self.kept.lock().unwrap();
        let (taken, left) = kept.drain(..).partition(|told: &Told| told.target == target);
        *kept = left;
        taken
    }

    /// The only one of this target since the last time.
    pub(crate) fn only(&self, target: &str) -> Told {
        let mut taken = self.take(target);
        assert_eq!(taken.len(), 1, "{taken:#?}");
        taken.remove(0)
    }
}

impl Subscriber for Records {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() <= self.most && metadata.target().starts_with("mainstem")
    }

    fn event(&self, event: &Event<'_>) {
        struct Fields<'a>(&'a mut BTreeMap<String, String>);
        impl Visit for Fields<'_> {
            fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
                self.0.insert(field.name().to_owned(), format!("{value:?}"));
            }

            fn record_str(&mut self, field: &Field, value: &str) {
                self.0.insert(field.name().to_owned(), value.to_owned());
            }
        }
        let mut fields = BTreeMap::new();
        event.record(&mut Fields(&mut fields));
        self.kept.lock().unwrap().push(Told { target: event.metadata().target().to_owned(), fields });
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}
