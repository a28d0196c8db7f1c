//! A URL whose host is a name for several replicas.

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
};

use crate::error::{Error, Result};

/// Its parts. The text contains a password: only the host is ever shown.
#[derive(Clone)]
pub(super) struct NameUrl {
    /// Up to the host.
    before: String,
    pub(super) host: String,
    pub(super) port: u16,
    /// The path and what follows it.
    after: String,
}

impl NameUrl {
    pub(super) fn parse(url: &str) -> Result<Self> {
        let refused = |problem: &str| {
            Err(Error::configuration(format!(
                "the URL of a name of replicas {problem}: write postgres://user@name/database"
            )))
        };
        let Some(scheme) = ["postgres://", "postgresql://"].into_iter().find(|scheme| url.starts_with(scheme)) else {
            return refused("does not begin with postgres:// or postgresql://");
        };
        let rest = &url[scheme.len()..];
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, after) = rest.split_at(end);
        let (login, at) = authority.rsplit_once('@').map_or(("", authority), |(login, at)| (login, at));
        let (host, port) = at.rsplit_once(':').unwrap_or((at, "5432"));
        let Ok(port) = port.parse() else { return refused("has an invalid port") };
        if host.is_empty() || host.contains([',', '%', '[', ']']) || host.parse::<IpAddr>().is_ok() {
            return refused("has no host that is one name");
        }
        let login = if authority.contains('@') { format!("{login}@") } else { String::new() };
        Ok(Self { before: format!("{scheme}{login}"), host: host.to_owned(), port, after: after.to_owned() })
    }

    /// The URL of one of its addresses. The name stays its host: certificates are issued for it.
    pub(super) fn at(&self, address: SocketAddr) -> String {
        let Self { before, host, after, .. } = self;
        let separator = if after.contains('?') { '&' } else { '?' };
        format!("{before}{host}:{}{after}{separator}hostaddr={}", address.port(), address.ip())
    }
}

impl fmt::Display for NameUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_put_beside_the_name() {
        let at = |url: &str, address: &str| NameUrl::parse(url).unwrap().at(address.parse().unwrap());
        assert_eq!(
            at("postgres://app:s%40crét@db.example:6543/shop?sslmode=require", "10.0.0.7:6543"),
            "postgres://app:s%40crét@db.example:6543/shop?sslmode=require&hostaddr=10.0.0.7"
        );
        let url = at("postgresql://db.example/shop", "[fd00::7]:5432");
        let config: tokio_postgres::Config = url.parse().unwrap();
        assert_eq!(config.get_hostaddrs(), ["fd00::7".parse::<IpAddr>().unwrap()]);
        assert_eq!((config.get_ports(), config.get_dbname()), (&[5432][..], Some("shop")));
    }

    #[test]
    fn invalid_name_urls_are_refused_without_revealing_the_password() {
        let wrong = [
            "host=db.example password=secret",
            "postgres://app:secret@10.0.0.1/shop",
            "postgres://app:secret@[::1]:5432/shop",
            "postgres://app:secret@a,b/shop",
            "postgres://app:secret@db.example:port/shop",
            "postgres://app:secret@/shop",
            "postgres://app:secret@%2Frun%2Fpg/shop",
        ];
        for url in wrong {
            let Err(error) = NameUrl::parse(url) else { panic!("{url} passes") };
            assert!(error.kind() == crate::ErrorKind::Configuration && !error.report().contains("secret"), "{error}");
        }
    }
}
