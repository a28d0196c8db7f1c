//! What a server tells without being asked, and the task that hears it.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU8, Ordering},
};

use futures_util::future::poll_fn;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::watch,
    task::AbortHandle,
};
use tokio_postgres::{AsyncMessage, Client, Connection as DriverConnection, Socket, error::DbError};

use super::{Role, reset::Reset};

/// What the server tells without being asked.
#[derive(Debug)]
pub(super) struct Told {
    in_hot_standby: AtomicU8,
    /// A commit did not wait for its standby to the end.
    unreplicated: AtomicBool,
    /// The payload of the last notification; it is also sent when the connection ends.
    notified: watch::Sender<Option<Box<str>>>,
    /// The server's major version, 0 when it is not told.
    version: u32,
}

/// The parameter `in_hot_standby`. A proxy may keep it to itself.
const UNKNOWN: u8 = 0;
const OFF: u8 = 1;
const ON: u8 = 2;

impl Told {
    /// The role that the server plays now, if it tells.
    pub(super) fn role(&self) -> Option<Role> {
        match self.in_hot_standby.load(Ordering::Acquire) {
            ON => Some(Role::Replica),
            OFF => Some(Role::Primary),
            _ => None,
        }
    }

    /// Whether a commit since the last question did not wait for its standby to the end.
    pub(super) fn take_unreplicated(&self) -> bool {
        self.unreplicated.swap(false, Ordering::AcqRel)
    }

    /// The server's major version, 0 when it is not told.
    pub(super) fn version(&self) -> u32 {
        self.version
    }

    /// What is notified on the channels that this session listens to; `None` when the connection has ended.
    pub(super) fn notified(&self) -> watch::Receiver<Option<Box<str>>> {
        self.notified.subscribe()
    }

    fn notice(&self, notice: &DbError) {
        // The function in the server, since the text is in the server's language.
        if notice.routine() == Some("SyncRepWaitForLSN") {
            self.unreplicated.store(true, Ordering::Release);
        }
        // Not its text, which may quote what a statement has brought.
        tracing::debug!(code = notice.code().code(), severity = notice.severity(), "a server has given notice");
    }
}

/// Hands the socket to a task of its own.
///
/// bb8-postgres spawns the connection and throws its messages away. We look at the parameter whenever bytes have arrived:
/// after a promotion the first answer brings the change, before the query itself resolves.
pub(super) fn listen<S>(
    (client, mut connection): (Client, DriverConnection<Socket, S>),
    reset: &Arc<Reset>,
) -> (Client, Arc<Told>, AbortHandle)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let in_hot_standby = AtomicU8::new(encode(connection.parameter("in_hot_standby")));
    let notified = watch::Sender::new(None);
    let version = connection.parameter("server_version").map_or(0, major);
    let told = Arc::new(Told { in_hot_standby, unreplicated: AtomicBool::new(false), notified, version });
    let (listener, reset) = (Arc::clone(&told), Arc::clone(reset));
    let driver = tokio::spawn(async move {
        loop {
            let message = poll_fn(|cx| {
                let message = connection.poll_message(cx);
                let in_hot_standby = encode(connection.parameter("in_hot_standby"));
                listener.in_hot_standby.store(in_hot_standby, Ordering::Release);
                reset.hear();
                message
            });
            match message.await {
                Some(Ok(AsyncMessage::Notice(notice))) => listener.notice(&notice),
                Some(Ok(AsyncMessage::Notification(notification))) => {
                    listener.notified.send_replace(Some(notification.payload().into()));
                }
                Some(Ok(_)) => {}
                Some(Err(error)) => {
                    tracing::debug!(error = &error as &dyn std::error::Error, "connection lost");
                    break;
                }
                None => break,
            }
        }
        // The client is closed once its other half has gone.
        drop(connection);
        reset.hear();
        listener.notified.send_replace(None);
    });
    (client, told, driver.abort_handle())
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
