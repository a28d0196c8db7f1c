//! The settings as text: in the query of a URL, and in the environment.
//!
//! | file | what it holds |
//! |---|---|
//! | `value` | conversion of values from and to text |
//! | `url_list` | one URL for all nodes |
//! | `environment` | environment variables |
//! | `settings.md` | the table of all settings, for users; a test compares it with this list |

mod environment;
#[cfg(test)]
mod tests;
mod url_list;
mod value;

use crate::{
    error::{Error, Result},
    router::{Fallback, ReplicaOptions, RouterBuilder},
};

/// One setting.
struct Setting {
    name: &'static str,
    /// A description of its values.
    values: &'static str,
    /// `None` if the text is not one of these.
    set: fn(RouterBuilder, &str) -> Option<RouterBuilder>,
    /// The current value as text.
    #[cfg_attr(not(test), expect(dead_code, reason = "the table of settings is compared with it in a test"))]
    get: fn(&RouterBuilder) -> String,
}

/// The prefix of our parameters in the query of a URL.
const PREFIX: &str = "mainstem.";

static SETTINGS: [Setting; 24] = [
    Setting {
        name: "max_connections",
        values: value::FROM_ONE,
        set: |builder, text| Some(builder.max_connections(value::from_one(text)?)),
        get: |builder| builder.max_connections.to_string(),
    },
    Setting {
        name: "min_connections",
        values: value::NUMBER,
        set: |builder, text| Some(builder.min_connections(value::number(text)?)),
        get: |builder| builder.upkeep.min_connections.to_string(),
    },
    Setting {
        name: "max_lifetime",
        values: value::LIMIT_OR_NONE,
        set: |builder, text| Some(builder.max_lifetime(value::limit_or_none(text)?)),
        get: |builder| builder.upkeep.max_lifetime.map_or_else(|| "none".to_owned(), value::of_time),
    },
    Setting {
        name: "idle_timeout",
        values: value::LIMIT_OR_NONE,
        set: |builder, text| Some(builder.idle_timeout(value::limit_or_none(text)?)),
        get: |builder| builder.upkeep.idle_timeout.map_or_else(|| "none".to_owned(), value::of_time),
    },
    Setting {
        name: "connect_timeout",
        values: value::LIMIT,
        set: |builder, text| Some(builder.connect_timeout(value::limit(text)?)),
        get: |builder| value::of_time(builder.limits.connect_timeout),
    },
    Setting {
        name: "acquire_timeout",
        values: value::LIMIT,
        set: |builder, text| Some(builder.acquire_timeout(value::limit(text)?)),
        get: |builder| value::of_time(builder.limits.acquire_timeout),
    },
    Setting {
        name: "waiting_calls",
        values: value::NUMBER,
        set: |builder, text| Some(builder.waiting_calls(value::number(text)?)),
        get: |builder| builder.waiting_calls.to_string(),
    },
    Setting {
        name: "call_timeout",
        values: value::LIMIT,
        set: |builder, text| Some(builder.call_timeout(value::limit(text)?)),
        get: |builder| value::of_time(builder.limits.call_timeout),
    },
    Setting {
        name: "statement_cache_capacity",
        values: value::NUMBER,
        set: |builder, text| Some(builder.statement_cache_capacity(value::number(text)?)),
        get: |builder| builder.session.statements.to_string(),
    },
    Setting {
        name: "transaction_pooling",
        values: value::BOOLEAN,
        set: |builder, text| Some(builder.transaction_pooling(value::boolean(text)?)),
        get: |builder| builder.session.is_pooled.to_string(),
    },
    Setting {
        name: "require_replicas",
        values: value::BOOLEAN,
        set: |builder, text| Some(builder.require_replicas(value::boolean(text)?)),
        get: |builder| builder.require_replicas.to_string(),
    },
    Setting {
        name: "zone",
        values: "a name",
        set: |builder, text| (!text.is_empty()).then(|| builder.zone(text)),
        get: |builder| builder.routing.zone.clone().unwrap_or_else(|| "none".to_owned()),
    },
    Setting {
        name: "zones",
        values: "a name for each node, in their order, separated by commas",
        set: |mut builder, text| {
            for (node, zone) in nodes_with(&mut builder, text)? {
                if zone.is_empty() {
                    return None;
                }
                node.zone = Some(zone.to_owned());
            }
            Some(builder)
        },
        get: |builder| of_nodes(builder, "none", |options| options.zone.clone().unwrap_or_default()),
    },
    Setting {
        name: "weights",
        values: "a whole number from 1 to 1000 for each node, in their order, separated by commas",
        set: |mut builder, text| {
            for (node, weight) in nodes_with(&mut builder, text)? {
                node.weight = value::from_one(weight).filter(|weight| *weight <= 1000)?;
            }
            Some(builder)
        },
        get: |builder| of_nodes(builder, "1", |options| options.weight.to_string()),
    },
    Setting {
        name: "fallback",
        values: "protect, unlimited or never",
        set: |builder, text| {
            let all = [Fallback::Protect, Fallback::Unlimited, Fallback::Never];
            Some(builder.fallback(all.into_iter().find(|fallback| value::of_fallback(*fallback) == text)?))
        },
        get: |builder| value::of_fallback(builder.routing.fallback).to_owned(),
    },
    Setting {
        name: "fallback_concurrency",
        values: value::FROM_ONE,
        set: |builder, text| Some(builder.fallback_concurrency(value::from_one(text)?)),
        get: |builder| {
            let reads = builder.routing.fallback_concurrency;
            reads.map_or_else(|| "a quarter of max_connections".to_owned(), |reads| reads.to_string())
        },
    },
    Setting {
        name: "fallback_rate",
        values: value::FROM_ONE,
        set: |builder, text| Some(builder.fallback_rate(value::from_one(text)?)),
        get: |builder| builder.routing.fallback_rate.map_or_else(|| "no limit".to_owned(), |rate| rate.to_string()),
    },
    Setting {
        name: "replay_wait",
        values: value::TIME,
        set: |builder, text| Some(builder.replay_wait(value::time(text)?)),
        get: |builder| value::of_time(builder.routing.replay_wait),
    },
    Setting {
        name: "fallback_wait",
        values: value::TIME,
        set: |builder, text| Some(builder.fallback_wait(value::time(text)?)),
        get: |builder| value::of_time(builder.routing.fallback_wait),
    },
    Setting {
        name: "max_replica_lag",
        values: value::TIME,
        set: |builder, text| Some(builder.max_replica_lag(value::time(text)?)),
        get: |builder| value::of_time(builder.routing.max_replica_lag),
    },
    Setting {
        name: "slow_start",
        values: value::TIME,
        set: |builder, text| Some(builder.slow_start(value::time(text)?)),
        get: |builder| value::of_time(builder.routing.slow_start),
    },
    Setting {
        name: "max_ejected_percent",
        values: "a whole number from 0 to 100",
        set: |builder, text| Some(builder.max_ejected_percent(value::number(text).filter(|percent| *percent <= 100)?)),
        get: |builder| builder.routing.max_ejected_percent.to_string(),
    },
    Setting {
        name: "probe_interval",
        values: value::LIMIT_OR_NONE,
        set: |builder, text| Some(builder.probe_interval(value::limit_or_none(text)?)),
        get: |builder| builder.routing.probe_interval.map_or_else(|| "none".to_owned(), value::of_time),
    },
    Setting {
        name: "resolve_interval",
        values: value::LIMIT,
        set: |builder, text| Some(builder.resolve_interval(value::limit(text)?)),
        get: |builder| value::of_time(builder.discovery.interval),
    },
];

impl Setting {
    /// Its name in the environment.
    fn variable(&self) -> String {
        format!("{}{}", environment::PREFIX, self.name.to_ascii_uppercase())
    }

    /// Sets it. `place` is how the error names it: the value is not in the error, since a misplaced value may be a
    /// password.
    fn set(&self, builder: RouterBuilder, text: &str, place: &str) -> Result<RouterBuilder> {
        (self.set)(builder, text.trim())
            .ok_or_else(|| Error::configuration(format!("{place} has another value than {}", self.values)))
    }
}

/// The nodes, each with its part of the text; `None` if their numbers differ.
fn nodes_with<'a>(builder: &'a mut RouterBuilder, text: &'a str) -> Option<Vec<(&'a mut ReplicaOptions, &'a str)>> {
    let is_complete = text.split(',').count() == builder.sources.len();
    let options = builder.sources.iter_mut().map(|listed| &mut listed.options);
    is_complete.then(|| options.zip(text.split(',').map(str::trim)).collect())
}

/// The parts of the nodes, or the default if there are no nodes.
fn of_nodes(builder: &RouterBuilder, default: &str, of: impl Fn(&ReplicaOptions) -> String) -> String {
    let parts: Vec<String> = builder.sources.iter().map(|listed| of(&listed.options)).collect();
    if parts.is_empty() { default.to_owned() } else { parts.join(",") }
}

/// The error for an unknown name, given the known ones.
fn unknown(place: &str, name: &str, known: impl Iterator<Item = String>) -> Error {
    // It may be part of something that must not appear in messages.
    let is_plain =
        name.len() <= 60 && name.chars().all(|letter| letter.is_ascii_alphanumeric() || "._-".contains(letter));
    let name = if is_plain { name } else { "of a strange name" };
    let known: Vec<String> = known.collect();
    // The suggestion ignores case and separators; the name itself does not.
    let plain = |name: &str| name.to_ascii_lowercase().replace(['.', '-'], "_");
    let near = known.iter().map(|known| (strsim::damerau_levenshtein(&plain(known), &plain(name)), known)).min();
    let hint = match near {
        Some((distance, near)) if distance <= 3 => format!("did you mean {near}?"),
        _ => format!("there are {}", known.join(", ")),
    };
    Error::configuration(format!("{place} {name} is unknown: {hint}"))
}
