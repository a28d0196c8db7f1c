//! What a server reports without being asked, and the task that reads it.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU8, AtomicUsize, Ordering},
    },
    task::{Context, Poll},
};

use futures_util::future::poll_fn;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::watch,
    task::AbortHandle,
};
use tokio_postgres::{AsyncMessage, Client, Connection as DriverConnection, Error, Socket, error::DbError};

use super::upkeep::NextLook;
use crate::router::{Role, lease::reset::Reset};

/// What the server reports without being asked.
#[derive(Debug)]
pub(in crate::router) struct ServerReports {
    in_hot_standby: AtomicU8,
    /// How many commits did not wait for their standby to the end.
    unreplicated: AtomicUsize,
    /// The payload of the last notification; it is also sent when the connection ends.
    notified: watch::Sender<Option<Box<str>>>,
    /// The server's major version, 0 if it is not reported.
    version: u32,
}

/// The parameter `in_hot_standby`. A proxy may withhold it.
const UNKNOWN: u8 = 0;
const OFF: u8 = 1;
const ON: u8 = 2;

impl ServerReports {
    /// The server's present role, if it reports it.
    pub(in crate::router) fn role(&self) -> Option<Role> {
        match self.in_hot_standby.load(Ordering::Acquire) {
            ON => Some(Role::Replica),
            OFF => Some(Role::Primary),
            _ => None,
        }
    }

    /// How many commits of this session did not wait for their standby to the end.
    pub(in crate::router) fn unreplicated(&self) -> usize {
        self.unreplicated.load(Ordering::Acquire)
    }

    /// The server's major version, 0 if it is not reported.
    pub(in crate::router) fn version(&self) -> u32 {
        self.version
    }

    /// The notifications on the channels of this session; `None` once the connection has ended.
    pub(in crate::router) fn notified(&self) -> watch::Receiver<Option<Box<str>>> {
        self.notified.subscribe()
    }

    fn notice(&self, notice: &DbError) {
        // By the function in the server, since the text is in the server's language.
        if notice.routine() == Some("SyncRepWaitForLSN") {
            self.unreplicated.fetch_add(1, Ordering::AcqRel);
        }
        // Not its text, which may quote the data of a statement.
        tracing::debug!(code = notice.code().code(), severity = notice.severity(), "a server has given notice");
    }
}

/// The listeners for what arrives, besides the calls that wait for an answer.
pub(in crate::router) struct ReportListeners {
    pub(in crate::router) reset: Arc<Reset>,
    /// The pool is checked when the connection has ended.
    pub(in crate::router) next_look: Arc<NextLook>,
}

/// The driver's half of a connection. However its task ends, the connection is dropped first, and then the waiters are
/// notified.
struct Driven<S> {
    connection: Option<DriverConnection<Socket, S>>,
    reports: Arc<ServerReports>,
    listeners: ReportListeners,
}

impl<S> Driven<S>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<AsyncMessage, Error>>> {
        let Some(connection) = &mut self.connection else { return Poll::Ready(None) };
        let message = connection.poll_message(cx);
        let in_hot_standby = encode(connection.parameter("in_hot_standby"));
        self.reports.in_hot_standby.store(in_hot_standby, Ordering::Release);
        self.listeners.reset.hear();
        message
    }
}

impl<S> Drop for Driven<S> {
    fn drop(&mut self) {
        // The client is closed once its other half is dropped.
        self.connection = None;
        self.listeners.reset.hear();
        self.listeners.next_look.at_once();
        self.reports.notified.send_replace(None);
    }
}

/// Hands the socket to a separate task.
///
/// bb8-postgres spawns the connection and discards its messages. We check the parameter whenever bytes have arrived:
/// after a promotion the first answer brings the change, before the query itself resolves. The answer to a session
/// reset is consumed there as well.
pub(in crate::router) fn listen<S>(
    (client, connection): (Client, DriverConnection<Socket, S>),
    listeners: ReportListeners,
) -> (Client, Arc<ServerReports>, AbortHandle)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let in_hot_standby = AtomicU8::new(encode(connection.parameter("in_hot_standby")));
    let notified = watch::Sender::new(None);
    let version = connection.parameter("server_version").map_or(0, major);
    let reports = Arc::new(ServerReports { in_hot_standby, unreplicated: AtomicUsize::new(0), notified, version });
    let mut driven = Driven { connection: Some(connection), reports: Arc::clone(&reports), listeners };
    let driver = tokio::spawn(async move {
        loop {
            match poll_fn(|cx| driven.poll(cx)).await {
                Some(Ok(AsyncMessage::Notice(notice))) => driven.reports.notice(&notice),
                Some(Ok(AsyncMessage::Notification(notification))) => {
                    driven.reports.notified.send_replace(Some(notification.payload().into()));
                }
                Some(Ok(_)) => {}
                Some(Err(error)) => {
                    tracing::debug!(error = &error as &dyn std::error::Error, "connection lost");
                    break;
                }
                None => break,
            }
        }
    });
    (client, reports, driver.abort_handle())
}

/// Of `15.18 (Debian 15.18-0+deb12u1)`, or `19rc1`.
fn major(version: &str) -> u32 {
    let digits = version.find(|character: char| !character.is_ascii_digit()).unwrap_or(version.len());
    version[..digits].parse().unwrap_or(0)
}

fn encode(in_hot_standby: Option<&str>) -> u8 {
    match in_hot_standby {
        Some("off") => OFF,
        Some("on") => ON,
        _ => UNKNOWN,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_tells_its_major_version() {
        let versions = ["15.18 (Debian 15.18-0+deb12u1)", "19rc1 (Debian 19~rc1-1)", "20devel", "17", "", "?"];
        assert_eq!(versions.map(major), [15, 19, 20, 17, 0, 0]);
    }
}
