//! How far away a server is: the same with and without the feature `rustls`, so that a URL means the same in both
//! cases.

use std::net::IpAddr;

use tokio_postgres::config::{Config, Host};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reach {
    /// A Unix socket.
    Socket,
    /// On this machine, at a loopback address.
    Local,
    Remote,
}

impl Reach {
    /// If there is a `hostaddr`, the driver connects to it, even beside a socket's directory, and the host is then only
    /// the name expected in the certificate. Both have to be on this machine: a tunnel that begins here ends where the
    /// name says.
    pub(super) fn of(config: &Config) -> Self {
        let is_here = config.get_hostaddrs().iter().all(IpAddr::is_loopback);
        match config.get_hosts() {
            [Host::Tcp(host)] if is_here && is_loopback(host) => Self::Local,
            #[cfg(unix)]
            [Host::Unix(_)] if config.get_hostaddrs().is_empty() => Self::Socket,
            #[cfg(unix)]
            [Host::Unix(_)] if is_here => Self::Local,
            _ => Self::Remote,
        }
    }
}

fn is_loopback(host: &str) -> bool {
    host == "localhost" || host.parse().is_ok_and(|address: IpAddr| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reach_is_determined_by_both_host_and_hostaddr() {
        let cases = [
            ("postgres://localhost/d", Reach::Local),
            ("postgres://127.0.0.1/d", Reach::Local),
            ("postgres://127.8.0.2:1/d", Reach::Local),
            ("postgres://[::1]/d", Reach::Local),
            ("host=localhost hostaddr=127.0.0.1", Reach::Local),
            ("host=localhost hostaddr=::1", Reach::Local),
            ("host=localhost hostaddr=10.0.0.1", Reach::Remote),
            ("host=127.0.0.1 hostaddr=fd00::1", Reach::Remote),
            ("host=db.example hostaddr=127.0.0.1", Reach::Remote),
            ("host=db.example hostaddr=10.0.0.1", Reach::Remote),
            ("postgres://primary/d", Reach::Remote),
            ("postgres://localhost.example/d", Reach::Remote),
            ("postgres://10.0.0.1/d", Reach::Remote),
            ("postgres://[fd00::1]/d", Reach::Remote),
            ("postgres://0.0.0.0/d", Reach::Remote),
            #[cfg(unix)]
            ("host=/run/postgresql", Reach::Socket),
            #[cfg(unix)]
            ("host=/run/postgresql hostaddr=127.0.0.1", Reach::Local),
            #[cfg(unix)]
            ("host=/run/postgresql hostaddr=10.0.0.1", Reach::Remote),
        ];
        for (url, expected) in cases {
            assert_eq!(Reach::of(&url.parse().unwrap()), expected, "{url}");
        }
    }
}
