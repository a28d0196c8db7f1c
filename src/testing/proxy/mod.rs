//! A network that fails when it is told to: a TCP proxy in front of one node.
//!
//! | file | what it holds |
//! |---|---|
//! | `faults` | what it was told, and what follows for the bytes at hand: pure |
//! | `connection` | one connection: two sockets, and what is on its way between them |
//! | `shared` | the thread's loop, which accepts connections and cuts them |

mod connection;
mod faults;
mod shared;

use std::{
    fmt, io,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc as ack},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use tokio::sync::mpsc;

use self::shared::{Command, Shared};
use super::ports;
use crate::{Error, ErrorKind, Result};

/// For the proxy's thread to do what it was told: microseconds, unless the machine is overloaded.
const LIMIT: Duration = Duration::from_secs(10);
/// How often another port is taken because somebody was faster.
const PORT_TRIES: usize = 20;

/// A TCP proxy in front of one node, which delays, throttles, falls silent and cuts when it is told to.
///
/// A server can be stopped, killed or frozen ([`Node`](super::Node)); this is for what a *network* does. Clients connect to
/// its [address](Self::address) instead of the node's ([`Node::proxy`](super::Node::proxy),
/// [`Node::url_through`](super::Node::url_through), [`TestDatabase::url_through`](super::TestDatabase::url_through)). At
/// first it forwards everything at once, and what it is told holds for the connections that are there and for new ones.
///
/// | fault | what a client sees | the call |
/// |---|---|---|
/// | slow network | each byte is late | [`delay`](Self::delay) |
/// | narrow network | so many bytes per second | [`throttle`](Self::throttle) |
/// | node gone silent | sockets stay open, nothing comes; connecting succeeds, and logging in hangs | [`silence`](Self::silence) of both directions |
/// | half-open connection | what it sends arrives and no answer comes, or the other way round | [`silence`](Self::silence) of one direction |
/// | silence in the middle of an answer | the first bytes of it, and no more | [`silence_after`](Self::silence_after) |
/// | connections lost | a reset | [`cut`](Self::cut) |
/// | nobody listens | "connection refused" | [`refuse`](Self::refuse) |
///
/// [`restore`](Self::restore) ends all of them.
///
/// ```no_run
/// use std::time::Duration;
///
/// use mainstem::{Consistency, Role, Router, testing::{Direction, LocalCluster}};
///
/// # async fn run() -> mainstem::Result<()> {
/// let cluster = LocalCluster::start().await?;
/// let database = cluster.database().await?;
/// let proxy = cluster.replica(0).proxy()?;
/// let router = Router::builder()
///     .primary(database.primary_url())
///     .replica(database.url_through(&proxy))
///     .connect_timeout(Duration::from_millis(200))
///     .connect()
///     .await?;
///
/// proxy.silence(Direction::Both);
/// let client = router.client_at(Consistency::Strong).await?;
/// client.query_one("SELECT 1", &[]).await?;
///
/// proxy.restore()?;
/// assert_eq!(router.client_at(Consistency::Eventual).await?.role(), Role::Replica);
/// assert!(proxy.counts().bytes_to_client > 0);
/// # Ok(())
/// # }
/// ```
///
/// # What is exact
///
/// When a method returns, what it asks for is so; it waits for no network. No byte is forwarded behind a `silence`, all sockets
/// are closed behind a `cut`, the next connect fails behind a `refuse`. Bytes stay in order under every fault, and none is lost
/// but by a cut, or by a reset from one of the two ends. What arrives during a silence or a delay waits in the proxy, up to 256
/// packets of up to 16 KiB in each direction of a connection; the rest waits with its sender. The end of a connection travels
/// like a byte: behind a silence nobody learns that the other side is gone.
///
/// It connects to the node when a client's connection is accepted, or else when it is not silent any more towards the
/// server. If the node refuses, the client is reset.
///
/// # The end
///
/// It runs on a thread with a tokio runtime of its own, so it works for a test on any runtime, and for one whose clock is
/// paused: its delays are real time. Dropped, it closes all sockets and waits for that thread; nothing of it is left.
pub struct FaultProxy {
    address: SocketAddr,
    shared: Arc<Shared>,
    /// Locked while that changes.
    is_listening: Mutex<bool>,
    commands: Option<mpsc::UnboundedSender<Command>>,
    thread: Option<JoinHandle<()>>,
}

/// Which bytes a fault of a [`FaultProxy`] is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Direction {
    /// Questions: from the client to the server.
    ToServer,
    /// Answers: from the server to the client.
    ToClient,
    /// Both.
    Both,
}

/// What went through a [`FaultProxy`] since its start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ProxyCounts {
    /// Connections that were accepted. One that a client has just opened is counted an instant later.
    pub connections: u64,
    /// Those of them that are open: one whose end was not delivered yet is.
    pub open: u64,
    /// Bytes that were handed on to the server.
    pub bytes_to_server: u64,
    /// Bytes that were handed on to clients.
    pub bytes_to_client: u64,
}

impl FaultProxy {
    /// A proxy in front of this address, such as `([127, 0, 0, 1], 5432)`. Nobody has to listen there yet.
    ///
    /// It listens on 127.0.0.1 only, on a free port from below the range of outgoing connections: nobody else gets the port
    /// while the proxy [refuses](Self::refuse).
    ///
    /// # Errors
    ///
    /// [`Unavailable`](ErrorKind::Unavailable) if there is no free port, [`Configuration`](ErrorKind::Configuration) if
    /// the system gives no thread or no socket.
    pub fn start(target: impl Into<SocketAddr>) -> Result<Self> {
        let listener = listen_anywhere()?;
        let unusable = |error| Error::configuration("cannot start a proxy").with_source(error);
        let address = listener.local_addr().map_err(unusable)?;
        let shared = Shared::new(target.into());
        let (commands, receiver) = mpsc::unbounded_channel();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(unusable)?;
        let served = Arc::clone(&shared);
        let thread = thread::Builder::new()
            .name(format!("proxy-{}", address.port()))
            .spawn(move || runtime.block_on(shared::run(served, receiver)))
            .map_err(unusable)?;
        let is_listening = Mutex::new(true);
        let proxy = Self { address, shared, is_listening, commands: Some(commands), thread: Some(thread) };
        proxy.order(|done| Command::Listen(listener, done))?;
        Ok(proxy)
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The port on 127.0.0.1 where it listens.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// Hands each byte on so long after it has arrived, to the millisecond. At first, and after zero, at once.
    ///
    /// For a distant node: half of the round trip in each direction, or all of it in one. It is late but not slow: what was
    /// sent at once arrives at once. A change holds for what is on its way, too, which keeps its order. Below 1 ms the timer
    /// shows more than the setting; above the client's own limits it is a silence that ends.
    pub fn delay(&self, direction: Direction, delay: Duration) {
        self.shared.change(|faults| faults.delay(direction, delay));
    }

    /// Hands on so many bytes per second, over all connections together, in steps of 20 ms. At first without a limit.
    ///
    /// For a node that can bear only so much: as little as makes it the bottleneck on any machine. A log-in takes some
    /// hundred bytes in each direction: with as few per second, nobody gets in before the usual limits; 0 hands nothing on.
    /// Above what the machine can do (some 100 MB per second) it limits nothing. With [`Direction::Both`], each direction
    /// gets the rate for itself.
    pub fn throttle(&self, direction: Direction, bytes_per_second: u64) {
        self.shared.change(|faults| faults.throttle(direction, bytes_per_second, Instant::now()));
    }

    /// Hands nothing on any more, and keeps the sockets open: connecting succeeds, since the kernel answers, and nothing
    /// follows. At first nothing is silent.
    ///
    /// With one direction it makes connections half-open. Silences add up: one of the other direction does not end this one.
    /// What arrives meanwhile is delivered after [`restore`](Self::restore), in order, also a request to cancel; unless the
    /// connection is [cut](Self::cut).
    pub fn silence(&self, direction: Direction) {
        self.shared.change(|faults| faults.silence(direction));
    }

    /// Falls [silent](Self::silence) in both directions when so many more bytes have gone to clients, over all connections
    /// together. At first never.
    ///
    /// For a node that is lost in the middle of an answer. A message begins with five bytes for its type and length: with
    /// fewer, the client has seen no part of the answer; with more than the answer has, a later one is cut in two. 0 is a
    /// silence at once.
    pub fn silence_after(&self, bytes: u64) {
        self.shared.change(|faults| faults.silence_after(bytes));
    }

    /// Resets every connection, on both sides. What was on its way is lost. New ones are accepted. (The server sees an orderly
    /// end of a connection that was just being opened.)
    ///
    /// # Errors
    ///
    /// [`Timeout`](ErrorKind::Timeout) if they are not closed after ten seconds.
    pub fn cut(&self) -> Result<()> {
        self.order(Command::Cut)
    }

    /// Listens no more, until [`restore`](Self::restore): connecting fails at once. The connections that are there stay;
    /// [`cut`](Self::cut) ends them.
    ///
    /// # Errors
    ///
    /// [`Timeout`](ErrorKind::Timeout) if it still listens after ten seconds.
    pub fn refuse(&self) -> Result<()> {
        let mut is_listening = self.is_listening();
        self.order(Command::Refuse)?;
        *is_listening = false;
        Ok(())
    }

    /// Ends all faults, and delivers what was held. Connections that were cut stay so.
    ///
    /// # Errors
    ///
    /// [`Unavailable`](ErrorKind::Unavailable) if it [refused](Self::refuse), and somebody has taken its port meanwhile.
    pub fn restore(&self) -> Result<()> {
        self.shared.change(faults::Faults::restore);
        let mut is_listening = self.is_listening();
        if !*is_listening {
            let listener = TcpListener::bind(self.address).map_err(|error| {
                let message = format!("the proxy cannot listen on {} again", self.address);
                Error::new(ErrorKind::Unavailable, message).with_source(error)
            })?;
            self.order(|done| Command::Listen(listener, done))?;
            *is_listening = true;
        }
        Ok(())
    }

    /// What went through it so far.
    #[must_use]
    pub fn counts(&self) -> ProxyCounts {
        self.shared.faults().counts
    }

    fn is_listening(&self) -> MutexGuard<'_, bool> {
        self.is_listening.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has the thread do something, and waits until it has.
    fn order(&self, command: impl FnOnce(ack::Sender<io::Result<()>>) -> Command) -> Result<()> {
        let (done, doing) = ack::channel();
        let Some(commands) = &self.commands else { return Ok(()) };
        let _ = commands.send(command(done));
        let failed = |kind, message| Error::new(kind, format!("the proxy on {} {message}", self.address));
        match doing.recv_timeout(LIMIT) {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(failed(ErrorKind::Unavailable, "cannot listen".to_owned()).with_source(error)),
            Err(_) => Err(failed(ErrorKind::Timeout, format!("has not obeyed within {LIMIT:?}"))),
        }
    }
}

impl Drop for FaultProxy {
    fn drop(&mut self) {
        drop(self.commands.take());
        if let Some(Err(_)) = self.thread.take().map(JoinHandle::join) {
            tracing::warn!(address = %self.address, "a proxy's thread has panicked");
        }
    }
}

impl fmt::Debug for FaultProxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FaultProxy")
            .field("address", &self.address)
            .field("target", &self.shared.target)
            .field("counts", &self.counts())
            .finish_non_exhaustive()
    }
}

fn listen_anywhere() -> Result<TcpListener> {
    let mut tries = 0;
    loop {
        tries += 1;
        match TcpListener::bind((Ipv4Addr::LOCALHOST, ports::free_port()?)) {
            Ok(listener) => return Ok(listener),
            Err(_) if tries < PORT_TRIES => {}
            Err(error) => {
                let message = "a proxy cannot listen on 127.0.0.1";
                return Err(Error::new(ErrorKind::Unavailable, message).with_source(error));
            }
        }
    }
}
