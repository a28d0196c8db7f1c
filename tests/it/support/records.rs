//! What the library records through `tracing` on this thread: events, and spans when they end.

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

/// Keeps the events and spans of the library's targets.
#[derive(Clone)]
pub(crate) struct Records {
    most: Level,
    kept: Arc<Mutex<Vec<Told>>>,
    spans: Arc<Mutex<Spans>>,
}

/// The open spans.
#[derive(Default)]
struct Spans {
    last_id: u64,
    open: BTreeMap<u64, Open>,
    /// The entered spans, innermost last.
    entered: Vec<u64>,
}

struct Open {
    told: Told,
    handles: usize,
}

/// An event or a span. A span has its name as `span`, and the name of its enclosing span as `parent`.
#[derive(Clone, Debug)]
pub(crate) struct Told {
    pub(crate) target: String,
    pub(crate) fields: BTreeMap<String, String>,
}

impl Told {
    /// The value of a field, empty if it is absent.
    pub(crate) fn get(&self, name: &str) -> &str {
        self.fields.get(name).map_or("", |value| value)
    }

    pub(crate) fn number(&self, name: &str) -> f64 {
        self.get(name).parse().unwrap_or_else(|_| panic!("{name} of {self:?}"))
    }
}

impl Records {
    /// Keeps records of this level and of more important ones until the guards are dropped.
    pub(crate) fn keep(most: Level) -> (Self, (DefaultGuard, Dispatch)) {
        let records = Self { most, kept: Arc::default(), spans: Arc::default() };
        // With only one subscriber, threads without a subscriber would disable callsites for this one too.
        let second = Dispatch::new(records.clone());
        (records.clone(), (set_default(records), second))
    }

    /// The records of this target since the last call.
    pub(crate) fn take(&self, target: &str) -> Vec<Told> {
        let mut kept = self.kept.lock().unwrap();
        let (taken, left) = kept.drain(..).partition(|told: &Told| told.target == target);
        *kept = left;
        taken
    }

    /// All records since the last call.
    pub(crate) fn take_all(&self) -> Vec<Told> {
        std::mem::take(&mut *self.kept.lock().unwrap())
    }

    /// The only record of this target since the last call.
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
        let mut fields = BTreeMap::new();
        event.record(&mut Fields(&mut fields));
        self.kept.lock().unwrap().push(Told { target: event.metadata().target().to_owned(), fields });
    }

    fn new_span(&self, span: &Attributes<'_>) -> Id {
        let mut fields = BTreeMap::new();
        span.record(&mut Fields(&mut fields));
        fields.insert("span".to_owned(), span.metadata().name().to_owned());
        let mut spans = self.spans.lock().unwrap();
        if let Some(parent) = spans.entered.last().and_then(|id| spans.open.get(id)) {
            fields.insert("parent".to_owned(), parent.told.get("span").to_owned());
        }
        spans.last_id += 1;
        let (id, target) = (spans.last_id, span.metadata().target().to_owned());
        spans.open.insert(id, Open { told: Told { target, fields }, handles: 1 });
        Id::from_u64(id)
    }

    fn record(&self, id: &Id, values: &Record<'_>) {
        if let Some(open) = self.spans.lock().unwrap().open.get_mut(&id.into_u64()) {
            values.record(&mut Fields(&mut open.told.fields));
        }
    }

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn enter(&self, id: &Id) {
        self.spans.lock().unwrap().entered.push(id.into_u64());
    }

    fn exit(&self, id: &Id) {
        let mut spans = self.spans.lock().unwrap();
        if let Some(at) = spans.entered.iter().rposition(|entered| *entered == id.into_u64()) {
            spans.entered.remove(at);
        }
    }

    fn clone_span(&self, id: &Id) -> Id {
        if let Some(open) = self.spans.lock().unwrap().open.get_mut(&id.into_u64()) {
            open.handles += 1;
        }
        id.clone()
    }

    fn try_close(&self, id: Id) -> bool {
        let mut spans = self.spans.lock().unwrap();
        let Some(open) = spans.open.get_mut(&id.into_u64()) else { return false };
        open.handles -= 1;
        let is_over = open.handles == 0;
        if is_over && let Some(open) = spans.open.remove(&id.into_u64()) {
            self.kept.lock().unwrap().push(open.told);
        }
        is_over
    }
}

struct Fields<'a>(&'a mut BTreeMap<String, String>);

impl Visit for Fields<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.0.insert(field.name().to_owned(), format!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.0.insert(field.name().to_owned(), value.to_owned());
    }
}
