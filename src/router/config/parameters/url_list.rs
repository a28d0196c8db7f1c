//! One URL that names all nodes and, in its query, settings.

use std::borrow::Cow;

use percent_encoding::percent_decode_str;

use super::{PREFIX, SETTINGS, unknown};
use crate::{
    error::{Error, Result},
    router::{
        ReplicaOptions, RouterBuilder,
        config::{builder::Listed, source::Source, url},
    },
};

/// The contents of a URL list.
struct UrlList {
    /// A URL for each node.
    urls: Vec<String>,
    /// Our own parameters.
    parameters: Vec<(String, String)>,
}

impl RouterBuilder {
    /// Reads the settings from one URL that names all nodes but not their roles: the router finds the primary by
    /// asking.
    ///
    /// User, password, database and the parameters of the query apply to all nodes; each node has its own port, 5432 by
    /// default. Parameters that begin with `mainstem.` are settings of the router; the [table](Self#all-settings) lists
    /// them all. The others are those of [`primary`](Self::primary). Settings made on the builder afterwards take
    /// precedence.
    ///
    /// Until a node has reported its role it counts as a replica, so nothing is written to it. Strong calls wait for
    /// the report (see [`build`](Self::build)), and the primary may serve the first eventual reads.
    /// [Probing](Self::probe_interval) must therefore be on, and [`connect`](Self::connect) fails if none of the nodes
    /// takes writes.
    ///
    /// ```
    /// use mainstem::RouterBuilder;
    ///
    /// let builder = RouterBuilder::from_url(
    ///     "postgres://app:secret@db1,db2,db3:5433/shop?sslmode=disable&mainstem.max_connections=20&mainstem.call_timeout=5s",
    /// )?;
    ///
    /// let error = RouterBuilder::from_url("postgres://db1,db2/shop?mainstem.max_conections=20").unwrap_err();
    /// assert!(error.to_string().contains("did you mean mainstem.max_connections?"));
    /// # Ok::<(), mainstem::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Configuration`](crate::ErrorKind::Configuration) if it is not such a URL, if one of our parameters
    /// is unknown or has an invalid value, and for `target_session_attrs`, which would make the driver refuse nodes
    /// that the router needs: the level of each call determines where it goes. [`build`](Self::build) reports all other
    /// mistakes.
    pub fn from_url(url: impl AsRef<str>) -> Result<Self> {
        let UrlList { urls, parameters } = split(url.as_ref())?;
        let listed = |url| Listed { role: None, source: Source::Url(url), options: ReplicaOptions::new() };
        let mut builder = Self::default();
        builder.sources.extend(urls.into_iter().map(listed));
        let mut seen: Vec<&str> = Vec::new();
        for (name, value) in &parameters {
            let setting = SETTINGS.iter().find(|setting| name.strip_prefix(PREFIX) == Some(setting.name));
            let Some(setting) = setting else {
                let known = SETTINGS.iter().map(|setting| format!("{PREFIX}{}", setting.name));
                return Err(unknown("the parameter of the URL", name, known));
            };
            if seen.contains(&setting.name) {
                return Err(Error::configuration(format!("the parameter {name} of the URL is there twice")));
            }
            seen.push(setting.name);
            builder = setting.set(builder, value, &format!("the parameter {name} of the URL"))?;
        }
        Ok(builder)
    }
}

/// A URL for each host, with the whole rest of the list.
fn split(url: &str) -> Result<UrlList> {
    let refused = |problem: &str| Err(Error::configuration(format!("the URL of the nodes {problem}")));
    let Some(rest) = url::after_scheme(url) else {
        return refused("begins with something else than postgres:// or postgresql://");
    };
    if url::has_stray_at(rest) {
        return refused(url::STRAY_AT);
    }
    let (before, rest) = rest.split_at(rest.find('@').map_or(0, |at| at + 1));
    let (hosts, rest) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
    let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
    let (mut others, mut parameters) = (Vec::new(), Vec::new());
    for piece in query.split('&').filter(|piece| !piece.is_empty()) {
        let (name, value) = piece.split_once('=').unwrap_or((piece, ""));
        let (name, value) = (decoded(name), decoded(value));
        if url::is_ours(&name) {
            parameters.push((name.into_owned(), value.into_owned()));
        } else if name == "target_session_attrs" && value != "any" {
            return refused("has target_session_attrs: leave it out, the level of each call says where it goes");
        } else {
            others.push(piece);
        }
    }
    let tail = if others.is_empty() { path.to_owned() } else { format!("{path}?{}", others.join("&")) };
    if hosts.split(',').any(str::is_empty) {
        return refused("names no host, or has a comma too many between them");
    }
    let urls = hosts.split(',').map(|host| format!("postgres://{before}{host}{tail}"));
    Ok(UrlList { urls: urls.collect(), parameters })
}

fn decoded(text: &str) -> Cow<'_, str> {
    percent_decode_str(text).decode_utf8_lossy()
}
