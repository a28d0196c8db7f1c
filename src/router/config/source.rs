//! The source of a node: a URL, or a pool that the user created.

use std::{sync::Arc, time::Duration};

use tokio_postgres::config::Host;

use super::{
    tls,
    url::{self, DEFAULT_PORT, Defaults},
};
use crate::{
    error::Result,
    router::{
        Role,
        pool::{borrowed::ExistingPool, manager::Configs, names::Address},
        record::Endpoint,
    },
};

/// A source as given in the settings.
pub(in crate::router) enum Source {
    Url(String),
    Pool(ExistingPool),
}

/// A source with its name, but without its secrets.
pub(in crate::router) enum Parsed {
    Url(Arc<str>, Box<Configs>),
    Pool(Arc<str>, ExistingPool),
}

impl Source {
    pub(in crate::router) fn url(&self) -> Option<&str> {
        match self {
            Self::Url(url) => Some(url),
            Self::Pool(_) => None,
        }
    }

    pub(in crate::router) fn parse(
        self,
        index: usize,
        role: Option<Role>,
        limit: Duration,
        is_pooled: bool,
        defaults: &Defaults,
        tls: &mut tls::Resolver,
    ) -> Result<Parsed> {
        let what = match role {
            Some(Role::Primary) => "the primary".to_owned(),
            Some(Role::Replica) => format!("replica {index}"),
            None => format!("node {} of the list", index + 1),
        };
        match self {
            Self::Url(url) => {
                let mut url = url::parse(&url, &what, limit, defaults)?;
                let encryption = tls.resolve(&url.tls, &url.config, &what)?.apply(&mut url.config);
                let (primary, replica) = (url.config(Role::Primary, is_pooled), url.config(Role::Replica, is_pooled));
                Ok(Parsed::Url(url.name.into(), Box::new(Configs { primary, replica, encryption })))
            }
            Self::Pool(pool) => {
                let name = match role {
                    Some(Role::Primary) => "primary pool".to_owned(),
                    _ => format!("replica pool {index}"),
                };
                Ok(Parsed::Pool(name.into(), pool))
            }
        }
    }
}

impl Parsed {
    pub(in crate::router) fn address(&self) -> Address {
        match self {
            Self::Url(host, configs) => {
                let database = configs.primary.get_dbname().map(str::to_owned);
                Address { host: Arc::clone(host), database }
            }
            Self::Pool(name, _) => Address { host: Arc::clone(name), database: None },
        }
    }

    /// The database, unless only the pool's owner knows it.
    pub(in crate::router) fn database(&self) -> Option<&str> {
        match self {
            // The driver leaves it to the server, which takes the user's name.
            Self::Url(_, configs) => configs.primary.get_dbname().or_else(|| configs.primary.get_user()),
            Self::Pool(..) => None,
        }
    }

    /// The address in the URL.
    pub(in crate::router) fn endpoint(&self) -> Endpoint {
        let Self::Url(_, configs) = self else { return Endpoint::default() };
        let host = configs.primary.get_hosts().first().map(|host| match host {
            Host::Tcp(host) => host.as_str().into(),
            #[cfg(unix)]
            Host::Unix(folder) => folder.display().to_string().into(),
        });
        let port = configs.primary.get_ports().first().copied().unwrap_or(DEFAULT_PORT);
        Endpoint { host, port: Some(port), database: self.database().map(Into::into) }
    }

    pub(in crate::router) fn capacity(&self, max_connections: u32) -> Option<u32> {
        matches!(self, Self::Url(..)).then_some(max_connections)
    }
}
