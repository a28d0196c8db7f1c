//! What a read must contain at any level: its floor.

use std::{fmt, sync::Arc};

use tokio_postgres::{Row, types::ToSql};

use crate::{
    error::{Error, ErrorKind, Result},
    lsn::Lsn,
    router::{
        Role,
        core::{Table, Want},
        route::want,
    },
    scope::Consistency,
    token::{Place, Token},
};

/// What a layer above asks of the serving connection.
pub(crate) trait Check: fmt::Debug + Send + Sync {
    /// The statement before the read, if there is anything to prove.
    fn sql_before(&self) -> Option<&str>;

    fn params(&self) -> Vec<&(dyn ToSql + Sync)>;

    /// Judges its answer.
    ///
    /// # Errors
    ///
    /// Errors that no other node and no waiting will change.
    fn judge(&self, rows: &[Row], role: Role) -> Result<Freshness>;

    /// The statement after the read, if its place is recorded.
    fn sql_after(&self) -> &str;

    /// The log that it judges, and the place of the newest event that it looks for.
    fn log(&self) -> (u64, Option<Place>);
}

/// Whether a node contains what it must.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Freshness {
    Contained,
    /// Not yet.
    Behind,
    /// That cannot be determined.
    Unknown,
}

/// What a read must contain.
#[derive(Clone, Debug, Default)]
pub(crate) struct Floor {
    token: Token,
    /// The layer's own part of it.
    check: Option<Arc<dyn Check>>,
}

/// What a floor requires, given what is known about the cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::router) struct Demand {
    pub(in crate::router) want: Want,
    /// The place that the connection has to prove.
    pub(in crate::router) place: Option<Place>,
    /// Whether no replica can prove that it contains everything.
    pub(in crate::router) only_primary: bool,
}

/// Why a floor cannot be translated into a requirement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::router) enum Unplaceable {
    /// It is on a timeline that is not known here yet.
    Newer(u32),
    /// It is on an older timeline, and it is unknown how much of that the present one contains.
    Older(Place),
    /// It refers to other clusters only.
    Foreign,
}

impl Floor {
    /// What the token requires. `None` if that is nothing.
    pub(crate) fn of(token: Token) -> Option<Self> {
        (!token.is_empty()).then_some(Self { token, check: None })
    }

    /// What the token requires, if this check judges a layer's own part of it.
    pub(crate) fn with_check(token: Token, check: Arc<dyn Check>) -> Self {
        Self { token, check: Some(check) }
    }

    pub(in crate::router) fn check(&self) -> Option<&Arc<dyn Check>> {
        self.check.as_ref()
    }

    /// What it requires at this level.
    pub(in crate::router) fn demand(&self, level: &Consistency, table: &Table) -> Result<Demand, Unplaceable> {
        let log = self.check.as_ref().map(|check| check.log());
        // Before the router knows of that failover, the old primary would report as lost what it only has not received.
        if let Some((_, Some(newest))) = log
            && table.timeline().is_some_and(|present| present < newest.timeline)
        {
            return Err(Unplaceable::Newer(newest.timeline));
        }
        if *level == Consistency::Strong {
            // This is the newest state there is. The check finds out what the log has lost.
            return Ok(Demand { want: Want::Strong, place: None, only_primary: false });
        }
        let system = table.system();
        // A session passes through several clusters; a token given for one call means this one.
        if let Consistency::AtLeast(token) = level
            && token.is_foreign(system)
        {
            return Err(Unplaceable::Foreign);
        }
        let (mut place, mut only_primary) = (None, false);
        for asked in self.token.places(system, log.map(|(log, _)| log)) {
            match asked {
                Some(asked) => place = place.max(Some(present(asked, table)?)),
                None => only_primary = true,
            }
        }
        // The place of the event only helps to find a node that contains it.
        let hint = log.and_then(|(_, place)| present(place?, table).ok());
        let want = match (want(level), place.max(hint)) {
            (Want::Eventual, Some(Place { timeline, lsn })) => Want::AtLeast { timeline, lsn },
            (want, _) => want,
        };
        Ok(Demand { want, place, only_primary })
    }
}

/// The place on the present timeline that contains this one.
fn present(place: Place, table: &Table) -> Result<Place, Unplaceable> {
    match table.timeline() {
        Some(timeline) if place.timeline < timeline => match table.holds(place.timeline, place.lsn) {
            true => Ok(Place { timeline, ..place }),
            false => Err(Unplaceable::Older(place)),
        },
        Some(timeline) if place.timeline > timeline => Err(Unplaceable::Newer(place.timeline)),
        _ => Ok(place),
    }
}

impl Unplaceable {
    pub(in crate::router) fn error(self) -> Error {
        let message = match self {
            Self::Newer(timeline) => {
                format!("the token is of timeline {timeline}, which no node of this router has told of")
            }
            Self::Older(Place { timeline, lsn }) => format!(
                "the token asks for the place {lsn} of timeline {timeline}, and there was a failover since: nobody can tell \
                 whether its writes were lost; drop the token"
            ),
            Self::Foreign => "the token speaks of other clusters than this one".to_owned(),
        };
        Error::new(ErrorKind::Unproven, message)
    }
}

/// A node's position, as it reports it.
#[derive(Clone, Copy, Debug)]
pub(in crate::router) struct Whereabouts {
    pub(in crate::router) role: Role,
    /// The LSN it contains.
    has: Lsn,
    /// What has been acknowledged on it is before this LSN, if it reports it: otherwise a token of it would require
    /// nothing.
    acknowledged: Option<Lsn>,
    /// Unless it is a replica that does not reveal it.
    pub(in crate::router) timeline: Option<u32>,
}

impl Whereabouts {
    /// The statement that queries it.
    pub(in crate::router) const SQL: &str = include_str!("place.sql");

    pub(in crate::router) fn read(rows: &[Row]) -> Result<Self> {
        let unreadable = |error| Error::new(ErrorKind::Database, "a node's place cannot be read").with_source(error);
        let row = rows.first().ok_or_else(|| Error::new(ErrorKind::Database, "the node did not say where it is"))?;
        let lsn = |column: usize| {
            let lsn: Option<tokio_postgres::types::PgLsn> = row.try_get(column).map_err(unreadable)?;
            Ok::<_, Error>(lsn.map(|lsn| Lsn::new(lsn.into())))
        };
        let timeline: Option<i64> = row.try_get(3).map_err(unreadable)?;
        Ok(Self {
            role: if row.try_get(0).map_err(unreadable)? { Role::Replica } else { Role::Primary },
            has: lsn(1)?.unwrap_or(Lsn::new(0)),
            acknowledged: lsn(2)?.map(Lsn::before_page_header),
            timeline: timeline.and_then(|timeline| timeline.try_into().ok()),
        })
    }

    /// The place that a token of everything up to now requires, if it is known.
    pub(in crate::router) fn place(self) -> Option<Place> {
        Some(Place { timeline: self.timeline?, lsn: self.acknowledged? })
    }

    /// What it proves about a replica.
    pub(in crate::router) fn replayed(self) -> Option<Place> {
        (self.role == Role::Replica).then_some(Place { timeline: self.timeline?, lsn: self.has })
    }

    /// Whether everything up to `place` is there.
    ///
    /// # Errors
    ///
    /// [`LogDiverged`](ErrorKind::LogDiverged) if the primary of that timeline has not got this far.
    pub(in crate::router) fn judge(self, place: Place) -> Result<Freshness> {
        let Some(timeline) = self.timeline else { return Ok(Freshness::Unknown) };
        Ok(match timeline.cmp(&place.timeline) {
            std::cmp::Ordering::Equal if self.has >= place.lsn => Freshness::Contained,
            std::cmp::Ordering::Equal if self.role == Role::Primary => {
                let message = format!(
                    "the token asks for the place {} of timeline {timeline}, and the primary has only got to {}: it was \
                     restored or has lost writes, or the token is made up",
                    place.lsn, self.has
                );
                return Err(Error::new(ErrorKind::LogDiverged, message));
            }
            std::cmp::Ordering::Equal => Freshness::Behind,
            // It may yet follow the failover.
            std::cmp::Ordering::Less if self.role == Role::Replica => Freshness::Behind,
            // There was a failover that this router has not seen yet.
            std::cmp::Ordering::Less | std::cmp::Ordering::Greater => Freshness::Unknown,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(role: Role, timeline: Option<u32>, has: u64) -> Whereabouts {
        Whereabouts { role, has: Lsn::new(has), acknowledged: Some(Lsn::new(has)), timeline }
    }

    #[test]
    fn a_place_is_there_when_its_own_timeline_has_got_so_far() {
        let place = Place { timeline: 2, lsn: Lsn::new(100) };
        let judge = |role, timeline, has| at(role, timeline, has).judge(place);
        for role in [Role::Primary, Role::Replica] {
            assert_eq!(judge(role, Some(2), 100).unwrap(), Freshness::Contained);
            assert_eq!(judge(role, Some(3), 999).unwrap(), Freshness::Unknown);
            assert_eq!(judge(role, None, 999).unwrap(), Freshness::Unknown);
        }
        assert_eq!(judge(Role::Replica, Some(2), 99).unwrap(), Freshness::Behind);
        assert_eq!(judge(Role::Replica, Some(1), 999).unwrap(), Freshness::Behind);
        assert_eq!(judge(Role::Primary, Some(1), 999).unwrap(), Freshness::Unknown);
        assert_eq!(judge(Role::Primary, Some(2), 99).unwrap_err().kind(), ErrorKind::LogDiverged);
    }

    const CLUSTER: Option<u64> = Some(7);

    /// The cluster is on timeline 2, which contains the first one up to 100.
    fn demand(token: Token, level: &Consistency) -> Result<Demand, Unplaceable> {
        let table = Table::of_history(7, 2, &[(1, Lsn::new(100))]);
        Floor { token, check: None }.demand(level, &table)
    }

    fn place(timeline: u32, lsn: u64) -> Place {
        Place { timeline, lsn: Lsn::new(lsn) }
    }

    #[test]
    fn a_place_of_an_older_timeline_is_asked_for_on_the_present_one_as_far_as_that_holds_it() {
        let asked = |timeline, lsn| demand(Token::of_place(CLUSTER, place(timeline, lsn)), &Consistency::Eventual);
        for (timeline, lsn) in [(1, 100), (2, 100), (2, 900)] {
            let want = Want::AtLeast { timeline: 2, lsn: Lsn::new(lsn) };
            let present = Demand { want, place: Some(place(2, lsn)), only_primary: false };
            assert_eq!(asked(timeline, lsn), Ok(present));
        }
        assert_eq!(asked(1, 101), Err(Unplaceable::Older(place(1, 101))));
        assert_eq!(asked(3, 1), Err(Unplaceable::Newer(3)));
        // A loss is not hidden by what is not lost.
        let both = Token::of_place(CLUSTER, place(1, 101)).merge(&Token::of_place(CLUSTER, place(2, 500)));
        assert_eq!(demand(both, &Consistency::Eventual), Err(Unplaceable::Older(place(1, 101))));
    }

    #[test]
    fn tokens_of_unknown_place_demand_the_primary() {
        let unknown = Token::of_unknown_place(CLUSTER);
        assert!(demand(unknown.clone(), &Consistency::Eventual).unwrap().only_primary);
        let known = Token::of_place(CLUSTER, place(2, 5));
        assert!(demand(unknown.merge(&known), &Consistency::Eventual).unwrap().only_primary);
        assert!(!demand(known, &Consistency::Eventual).unwrap().only_primary);
    }

    #[test]
    fn foreign_tokens_are_refused_unless_they_come_from_a_session() {
        let foreign = Token::of_place(Some(8), place(1, 1));
        let level = Consistency::AtLeast(foreign.clone());
        assert_eq!(demand(foreign.clone(), &level), Err(Unplaceable::Foreign));
        let nothing = Demand { want: Want::Eventual, place: None, only_primary: false };
        assert_eq!(demand(foreign, &Consistency::Eventual), Ok(nothing));
    }

    #[test]
    fn an_event_of_a_newer_timeline_is_not_looked_for_on_the_old_one() {
        #[derive(Debug)]
        struct Written(Place);
        impl Check for Written {
            fn sql_before(&self) -> Option<&str> {
                None
            }
            fn params(&self) -> Vec<&(dyn ToSql + Sync)> {
                Vec::new()
            }
            fn judge(&self, _: &[Row], _: Role) -> Result<Freshness> {
                Ok(Freshness::Contained)
            }
            fn sql_after(&self) -> &'static str {
                ""
            }
            fn log(&self) -> (u64, Option<Place>) {
                (5, Some(self.0))
            }
        }
        let table = Table::of_history(7, 2, &[]);
        for level in [Consistency::Strong, Consistency::Eventual] {
            let asked = |timeline| {
                let check = Arc::new(Written(place(timeline, 50)));
                Floor::with_check(Token::new(), check).demand(&level, &table)
            };
            assert_eq!(asked(3).unwrap_err(), Unplaceable::Newer(3));
            asked(2).unwrap();
            // The place where it was written is only a hint: the event itself is looked for.
            assert_eq!(asked(1).unwrap().place, None);
        }
    }
}
