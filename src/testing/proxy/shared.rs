//! The state that the proxy's handle and its thread share, and the thread's loop.

use std::{
    future::pending,
    io,
    net::SocketAddr,
    pin::pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc as ack},
    time::Duration,
};

use futures_util::future::{Either, select};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{mpsc, watch},
    task::JoinSet,
};

use super::{
    connection::{Opened, reset},
    faults::Faults,
};

/// The pause after a failed accept, perhaps because the process has no file descriptor left.
const PAUSE: Duration = Duration::from_millis(10);

#[derive(Debug)]
pub(super) struct Shared {
    pub(super) target: SocketAddr,
    faults: Mutex<Faults>,
    /// The number of cuts. Sending it signals a change of any kind.
    changes: watch::Sender<u64>,
}

/// What only the thread can do, since it owns the sockets. It acknowledges each.
#[derive(Debug)]
pub(super) enum Command {
    Listen(std::net::TcpListener, ack::Sender<io::Result<()>>),
    Refuse(ack::Sender<io::Result<()>>),
    Cut(ack::Sender<io::Result<()>>),
}

/// A listener, and a second handle of the same socket, which tells at once whether a connection waits in it.
struct Listener {
    socket: TcpListener,
    raw: std::net::TcpListener,
}

enum Event {
    Command(Option<Command>),
    Accepted(io::Result<TcpStream>),
}

impl Shared {
    pub(super) fn new(target: SocketAddr) -> Arc<Self> {
        Arc::new(Self { target, faults: Mutex::default(), changes: watch::Sender::new(0) })
    }

    pub(super) fn faults(&self) -> MutexGuard<'_, Faults> {
        self.faults.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn change(&self, change: impl FnOnce(&mut Faults)) {
        let mut faults = self.faults();
        change(&mut faults);
        self.changes.send_modify(|cuts| *cuts = faults.cuts);
    }

    pub(super) fn subscribe(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }
}

/// Serves until the sender of the commands is dropped. It owns a set of all tasks.
pub(super) async fn run(shared: Arc<Shared>, mut commands: mpsc::UnboundedReceiver<Command>) {
    let mut listener: Option<Listener> = None;
    let mut connections = JoinSet::new();
    loop {
        let accept = async {
            match &listener {
                Some(listener) => listener.socket.accept().await.map(|(socket, _)| socket),
                None => pending().await,
            }
        };
        let event = match select(pin!(commands.recv()), pin!(accept)).await {
            Either::Left((command, _)) => Event::Command(command),
            Either::Right((accepted, _)) => Event::Accepted(accepted),
        };
        while connections.try_join_next().is_some() {}
        match event {
            Event::Command(None) => return,
            Event::Command(Some(Command::Listen(socket, done))) => {
                let _ = done.send(Listener::new(socket).map(|new| listener = Some(new)));
            }
            Event::Command(Some(Command::Refuse(done))) => {
                // The kernel resets the connections that wait in it.
                listener = None;
                let _ = done.send(Ok(()));
            }
            Event::Command(Some(Command::Cut(done))) => {
                // For those clients they are connections, too.
                while let Some(socket) = listener.as_ref().and_then(Listener::next_waiting) {
                    shared.faults().counts.connections += 1;
                    reset(&socket);
                }
                shared.change(|faults| faults.cuts += 1);
                while connections.join_next().await.is_some() {}
                let _ = done.send(Ok(()));
            }
            Event::Accepted(Ok(socket)) => drop(connections.spawn(Opened::new(&shared).serve(socket))),
            Event::Accepted(Err(error)) => {
                tracing::debug!(error = &error as &dyn std::error::Error, "a proxy could not accept a connection");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

impl Listener {
    fn new(raw: std::net::TcpListener) -> io::Result<Self> {
        raw.set_nonblocking(true)?;
        Ok(Self { socket: TcpListener::from_std(raw.try_clone()?)?, raw })
    }

    fn next_waiting(&self) -> Option<TcpStream> {
        let (socket, _) = self.raw.accept().ok()?;
        socket.set_nonblocking(true).ok()?;
        TcpStream::from_std(socket).ok()
    }
}
