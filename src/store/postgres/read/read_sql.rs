//! The statements that read, assembled from parts: one text for each shape of a request, all values bound.

use std::{
    ops::ControlFlow::{self, Continue},
    sync::Arc,
    time::Instant,
};

use tokio_postgres::{Row, types::ToSql};

use crate::{
    Filter, Result,
    filter::Bounds,
    router::{Deadline, Lease, Planning},
    store::{
        Order, QueryRequest, ReadAfterRequest,
        postgres::{
            LogName,
            append::search::{Searches, Watched},
            filter_sql::{self, Param},
            wire::{Unreadable, position_param, unreadable},
        },
    },
};

/// The texts, with the log's names.
#[derive(Debug)]
pub(in crate::store::postgres) struct ReadSql {
    query: Template,
    landmarks: Template,
    found: Template,
    found_contained: Template,
    found_few: Template,
    found_near: Template,
    found_of_types: Template,
    count: Template,
    exists: Template,
    /// Starting from the first event, and from the last.
    load: [String; 2],
    searches: Arc<Searches>,
}

/// SQL with placeholders for the parts of a request, each a comment with its name. It is split before the names are put
/// in: they may look like a placeholder.
#[derive(Debug)]
pub(in crate::store::postgres) struct Template(Vec<Piece>);

#[derive(Debug)]
enum Piece {
    Text(String),
    Place(&'static str),
}

/// This many events are looked at one by one instead of searched by an index, and without planning the search each
/// time.
pub(in crate::store::postgres) const NEAR: u64 = 256;

/// The clause for the log's last event.
const HEAD: &str = "ORDER BY position DESC LIMIT 1";

/// A statement that reads, and its parameters.
#[derive(Default)]
pub(in crate::store::postgres) struct Statement<'a> {
    pub(in crate::store::postgres) sql: String,
    pub(in crate::store::postgres) planning: Planning,
    pub(in crate::store::postgres) params: Vec<Param<'a>>,
    pub(in crate::store::postgres) watched: Option<Watched>,
}

/// The content of the first row.
#[derive(Clone, Copy, Debug)]
pub(in crate::store::postgres) enum First {
    /// The log's last event.
    Head,
    /// The event at this position, if it exists.
    At(u64),
    /// The log's last event, and those at these positions that exist.
    HeadAnd([u64; 2]),
}

impl Template {
    pub(in crate::store::postgres) fn new(name: &LogName, sql: &'static str) -> Self {
        let mut pieces = Vec::new();
        for part in sql.split("/*") {
            let (place, text) = part.split_once("*/").map_or((None, part), |(place, text)| (Some(place), text));
            pieces.extend(place.map(|place| Piece::Place(place.trim())));
            pieces.push(Piece::Text(name.put_into(text)));
        }
        Self(pieces)
    }

    pub(in crate::store::postgres) fn with<'a>(&'a self, fill: impl Fn(&str) -> &'a str) -> String {
        let piece = |piece: &'a Piece| match piece {
            Piece::Text(text) => text,
            Piece::Place(place) => fill(place),
        };
        self.0.iter().map(piece).collect()
    }
}

impl ReadSql {
    pub(in crate::store::postgres) fn new(name: &LogName, searches: Arc<Searches>) -> Self {
        Self {
            searches,
            query: Template::new(name, include_str!("../sql/query.sql")),
            landmarks: Template::new(name, include_str!("../sql/landmarks.sql")),
            found: Template::new(name, include_str!("../sql/found.sql")),
            found_contained: Template::new(name, include_str!("../sql/found_contained.sql")),
            found_few: Template::new(name, include_str!("../sql/found_few.sql")),
            found_near: Template::new(name, include_str!("../sql/found_near.sql")),
            found_of_types: Template::new(name, include_str!("../sql/found_of_types.sql")),
            count: Template::new(name, include_str!("../sql/count.sql")),
            exists: Template::new(name, include_str!("../sql/exists.sql")),
            load: ["", " DESC"]
                .map(|order| Template::new(name, include_str!("../sql/load_stream.sql")).with(|_| order)),
        }
    }

    /// The first row, followed by the requested events, in their order and within their limit.
    pub(in crate::store::postgres) fn query<'a>(&self, request: &'a QueryRequest, first: First) -> Statement<'a> {
        let mut params: Vec<Param<'a>> = Vec::new();
        let mut bind = |param: Param<'a>| {
            params.push(param);
            format!("${}", params.len())
        };
        let head = match first {
            First::Head => HEAD.to_owned(),
            First::At(position) => format!("WHERE position = {}", bind(Box::new(position_param(position)))),
            First::HeadAnd(positions) => {
                let positions = bind(Box::new(positions.map(position_param).to_vec()));
                self.landmarks.with(|_| &positions)
            }
        };
        let limit = request.limit.map(|limit| format!(" LIMIT {}", bind(Box::new(position_param(limit)))));
        let limit = limit.as_deref().unwrap_or_default();
        let order = match request.order {
            Order::OldestFirst => "",
            Order::NewestFirst => " DESC",
        };
        let (mut planning, mut watched) = (Planning::ByTheServer, None);
        let found = match types_only(request) {
            Some(types) if request.limit.is_some() => {
                let types = bind(Box::new(types));
                let bounds = filter_sql::within(request.bounds, &mut params);
                self.found_of_types.with(|place| match place {
                    "types" => &types,
                    "bounds" => &bounds,
                    "order" => order,
                    _ => limit,
                })
            }
            _ => {
                let is_fenced = request.limit.is_none();
                let search = self.searches.of(&request.filter, request.bounds, is_fenced, &mut params);
                (planning, watched) = (search.planning, search.watched);
                let few = request.limit.is_some() && request.filter.items().is_some();
                let found = match few {
                    true => &self.found_few,
                    false if planning == Planning::Once => &self.found_contained,
                    false => &self.found,
                };
                found.with(|place| match place {
                    "filter" => &search.condition,
                    "order" => order,
                    _ => limit,
                })
            }
        };
        let sql = self.query.with(|place| if place == "head" { &head } else { &found });
        Statement { sql, planning, params, watched }
    }

    /// The head, followed by what is requested of the first [`NEAR`] events after `after`, oldest first.
    pub(in crate::store::postgres) fn near<'a>(&self, request: &'a QueryRequest, after: u64) -> Statement<'a> {
        let until = position_param(after.saturating_add(NEAR));
        let params: Vec<Param<'a>> = vec![Box::new(position_param(after)), Box::new(until)];
        let bounds = Bounds { after: None, ..request.bounds };
        self.one_by_one(&request.filter, bounds, HEAD, params, "")
    }

    /// What a read after a place requests: the head, the events at the place and at the end of the piece, and the
    /// events between them, within their limit. If that is near, they are looked at one by one.
    pub(in crate::store::postgres) fn read_after<'a>(
        &self,
        request: &'a ReadAfterRequest,
        query: &'a QueryRequest,
        is_near: bool,
    ) -> Statement<'a> {
        let after = request.after.position();
        let first = [after, request.until.unwrap_or(after)];
        match (is_near, request.until) {
            (true, Some(until)) => {
                let marks = first.map(position_param).to_vec();
                let params: Vec<Param<'a>> = vec![
                    Box::new(position_param(after)),
                    Box::new(position_param(until)),
                    Box::new(marks),
                    Box::new(position_param(request.limit)),
                ];
                let head = self.landmarks.with(|_| "$3");
                self.one_by_one(&request.filter, Bounds::default(), &head, params, " LIMIT $4")
            }
            _ => self.query(query, First::HeadAnd(first)),
        }
    }

    /// The matching events after $1 and up to $2, each looked at.
    fn one_by_one<'a>(
        &self,
        filter: &'a Filter,
        bounds: Bounds,
        head: &str,
        mut params: Vec<Param<'a>>,
        limit: &str,
    ) -> Statement<'a> {
        let filter = filter_sql::selection(filter, bounds, &[], &mut params);
        let found = self.found_near.with(|place| match place {
            "after" => "$1",
            "until" => "$2",
            "limit" => limit,
            _ => &filter,
        });
        let sql = self.query.with(|place| if place == "head" { head } else { &found });
        Statement { sql, planning: Planning::Once, params, watched: None }
    }

    /// The statement that loads a fixed stream.
    pub(in crate::store::postgres) fn load(&self, order: Order) -> &str {
        let [oldest_first, newest_first] = &self.load;
        match order {
            Order::OldestFirst => oldest_first,
            Order::NewestFirst => newest_first,
        }
    }

    pub(in crate::store::postgres) fn count<'a>(&self, request: &'a QueryRequest) -> Statement<'a> {
        self.filtered(&self.count, request)
    }

    pub(in crate::store::postgres) fn exists<'a>(&self, request: &'a QueryRequest) -> Statement<'a> {
        self.filtered(&self.exists, request)
    }

    fn filtered<'a>(&self, template: &Template, request: &'a QueryRequest) -> Statement<'a> {
        let mut params = Vec::new();
        let search = self.searches.of(&request.filter, request.bounds, false, &mut params);
        Statement { sql: template.with(|_| &search.condition), planning: search.planning, params, watched: None }
    }
}

impl Statement<'_> {
    /// Fetches its rows.
    pub(in crate::store::postgres) async fn ask(&self, lease: &Lease, deadline: Deadline) -> Result<Vec<Row>> {
        self.rows(lease, deadline, || Continue).await
    }

    /// Fetches its rows, reading each while the next ones are on their way.
    pub(in crate::store::postgres) async fn ask_for<T: Send>(
        &self,
        lease: &Lease,
        deadline: Deadline,
        read: fn(&Row) -> Result<T, Unreadable>,
    ) -> Result<Vec<T>> {
        self.ask_until(lease, deadline, || move |row| Continue(read(&row))).await
    }

    /// As [`ask_for`](Self::ask_for), up to the row at which one of these [readers](Lease::query_planned) stops.
    pub(in crate::store::postgres) async fn ask_until<T: Send, R>(
        &self,
        lease: &Lease,
        deadline: Deadline,
        reader: impl Fn() -> R + Send + Sync,
    ) -> Result<Vec<T>>
    where
        R: FnMut(Row) -> ControlFlow<Result<T, Unreadable>, Result<T, Unreadable>> + Send,
    {
        let rows = self.rows(lease, deadline, reader).await?;
        rows.into_iter().collect::<Result<_, _>>().map_err(unreadable)
    }

    async fn rows<T: Send, R>(
        &self,
        lease: &Lease,
        deadline: Deadline,
        reader: impl Fn() -> R + Send + Sync,
    ) -> Result<Vec<T>>
    where
        R: FnMut(Row) -> ControlFlow<T, T> + Send,
    {
        let began = self.watched.as_ref().map(|watched| (watched, Instant::now()));
        let rows = lease.query_planned(self.planning, deadline, &self.sql, &self.params()?, reader).await;
        if let Some((watched, began)) = began {
            watched.took(began.elapsed(), rows.as_ref().map_or(0, Vec::len));
        }
        rows
    }

    /// The parameters as the driver takes them, if there are not too many.
    pub(in crate::store::postgres) fn params(&self) -> Result<Vec<&(dyn ToSql + Sync)>> {
        filter_sql::bound(&self.params)
    }
}

/// All types of a filter that requests nothing else.
fn types_only(request: &QueryRequest) -> Option<Vec<&str>> {
    let items: Vec<_> = request.filter.items()?.collect();
    if items.iter().any(|item| item.tags().len() > 0 || item.predicates().is_some()) {
        return None;
    }
    let mut types: Vec<&str> = items.iter().flat_map(|item| item.types()).collect();
    // An event must be returned once, whatever the number of items that it matches.
    types.sort_unstable();
    types.dedup();
    Some(types)
}
