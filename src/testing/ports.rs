//! Free ports, and the random bits for them and for the password.

use std::{
    fs::{self, File},
    io::Read,
    net::{Ipv4Addr, TcpListener},
    ops::Range,
};

use crate::{Error, ErrorKind, Result};

const TRIES: usize = 200;

/// A port on which nothing listened a moment ago. Another process may take it before the server does: try again then.
///
/// It is below the range from which the kernel takes the ports of outgoing connections. Within that range, a stopped
/// server's port could go to any client, and a client that keeps connecting to a stopped server can even get connected
/// to itself.
pub(super) fn free_port() -> Result<u16> {
    let range = port_range(fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").ok().as_deref());
    for _ in 0..TRIES {
        let [high, low] = random()?;
        let port = range.start + u16::from_be_bytes([high, low]) % (range.end - range.start);
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return Ok(port);
        }
    }
    let message = format!("no free port on 127.0.0.1 from {} to {} in {TRIES} tries", range.start, range.end - 1);
    Err(Error::new(ErrorKind::Unavailable, message))
}

/// Random bytes from the system, as hexadecimal digits, which need no escaping in a URL, a file or a connection string.
pub(super) fn random_text() -> Result<String> {
    Ok(random::<16>()?.iter().map(|byte| format!("{byte:02x}")).collect())
}

fn port_range(outgoing: Option<&str>) -> Range<u16> {
    const USUAL: Range<u16> = 15_000..32_000;
    let first_outgoing = outgoing.and_then(|text| text.split_whitespace().next()?.parse::<u16>().ok());
    match first_outgoing {
        Some(first) if first < USUAL.start => 2_000..first.max(3_000),
        Some(first) => USUAL.start..first.clamp(USUAL.start + 1_000, USUAL.end),
        None => USUAL,
    }
}

/// Random bytes from the system.
pub(super) fn random<const N: usize>() -> Result<[u8; N]> {
    let mut bytes = [0; N];
    File::open("/dev/urandom")
        .and_then(|mut file| file.read_exact(&mut bytes))
        .map_err(|error| Error::configuration("cannot read /dev/urandom").with_source(error))?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_lie_below_those_of_outgoing_connections() {
        assert_eq!(port_range(Some("32768\t60999\n")), 15_000..32_000);
        assert_eq!(port_range(Some("20000 60999")), 15_000..20_000);
        assert_eq!(port_range(Some("10000 60999")), 2_000..10_000);
        assert_eq!(port_range(Some("1024 65000")), 2_000..3_000);
        assert_eq!(port_range(None), 15_000..32_000);
    }

    #[test]
    fn a_free_port_can_be_bound() {
        let port = free_port().unwrap();
        assert!((2_000..32_000).contains(&port));
        TcpListener::bind((Ipv4Addr::LOCALHOST, port)).unwrap();
    }

    #[test]
    fn random_text_differs_each_time() {
        let (first, second) = (random_text().unwrap(), random_text().unwrap());
        assert_ne!(first, second);
        assert_eq!(first.len(), 32);
    }
}
