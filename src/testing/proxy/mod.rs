//! A network that fails on demand: a TCP proxy in front of one node.
//!
//! | file | what it holds |
//! |---|---|
//! | `faults` | the proxy's orders, and what they mean for the data at hand: pure |
//! | `connection` | one connection: two sockets, and the data in transit between them |
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

/// The limit for the proxy's thread to carry out an order: it takes microseconds, unless the machine is overloaded.
const LIMIT: Duration = Duration::from_secs(10);
/// How often another port is tried because a different process was faster.
const PORT_TRIES: usize = 20;

/// A TCP proxy in front of one node, which delays, throttles, falls silent and cuts on demand.
///
/// A server can be stopped, killed or frozen ([`Node`](super::Node)); the proxy simulates what a *network* does.
/// Clients connect to its [address](Self::address) instead of the node's ([`Node::proxy`](super::Node::proxy),
/// [`Node::url_through`](super::Node::url_through), [`TestDatabase::url_through`](super::TestDatabase::url_through)).
/// At first it forwards everything at once. Its faults apply to existing and to new connections.
///
/// | fault | what a client sees | the call |
/// |---|---|---|
/// | slow network | each byte is late | [`delay`](Self::delay) |
/// | narrow network | a limited number of bytes per second | [`throttle`](Self::throttle) |
/// | node gone silent | sockets stay open, nothing arrives; connecting succeeds, and logging in hangs | [`silence`](Self::silence) of both directions |
/// | half-open connection | what it sends arrives and no answer comes, or the other way round | [`silence`](Self::silence) of one direction |
/// | silence in the middle of an answer | the first bytes of it, and no more | [`silence_after`](Self::silence_after) |
/// | connections lost | a reset | [`cut`](Self::cut) |
/// | nothing listens | "connection refused" | [`refuse`](Self::refuse) |
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
/// When a method returns, its order has taken effect; it waits for no network. After a `silence` no byte is forwarded,
/// after a `cut` all sockets are closed, and after a `refuse` the next connect fails. Bytes stay in order under every
/// fault, and none is lost except by a cut, or by a reset from one of the two ends. What arrives during a silence or a
/// delay waits in the proxy, up to 256 packets of up to 16 KiB in each direction of a connection; the rest waits with
/// its sender. The end of a connection travels like a byte: during a silence, neither side learns that the other is
/// gone.
///
/// The proxy connects to the node when a client's connection is accepted, or, during a silence towards the server, when
/// that silence ends. If the node refuses, the client is reset.
///
/// # The end
///
/// It runs on its own thread with its own tokio runtime, so it works for a test on any runtime, and for one whose clock
/// is paused: its delays are real time. When it is dropped, it closes all sockets and waits for that thread; nothing of
/// it remains.
pub struct FaultProxy {
    address: SocketAddr,
    shared: Arc<Shared>,
    /// Locked while that changes.
    is_listening: Mutex<bool>,
    commands: Option<mpsc::UnboundedSender<Command>>,
    thread: Option<JoinHandle<()>>,
}

/// The bytes that a fault of a [`FaultProxy`] applies to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Direction {
    /// Requests: from the client to the server.
    ToServer,
    /// Answers: from the server to the client.
    ToClient,
    /// Both directions.
    Both,
}

/// The traffic through a [`FaultProxy`] since its start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ProxyCounts {
    /// The number of connections accepted. One that a client has just opened is counted an instant later.
    pub connections: u64,
    /// How many of them are open, including those whose end was not delivered yet.
    pub open: u64,
    /// The number of bytes forwarded to the server.
    pub bytes_to_server: u64,
    /// The number of bytes forwarded to clients.
    pub bytes_to_client: u64,
}

impl FaultProxy {
    /// Starts a proxy in front of this address, such as `([127, 0, 0, 1], 5432)`. Nothing has to listen there yet.
    ///
    /// It listens on 127.0.0.1 only, on a free port from below the range of outgoing connections: no other process gets
    /// the port while the proxy [refuses](Self::refuse).
    ///
    /// # Errors
    ///
    /// [`Unavailable`](ErrorKind::Unavailable) if there is no free port, [`Configuration`](ErrorKind::Configuration) if
    /// the system provides no thread or no socket.
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

    /// Returns the address on which it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns the port on 127.0.0.1 on which it listens.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// Delays each byte by this time after its arrival, to the millisecond. Initially, and after zero, bytes are not
    /// delayed.
    ///
    /// To simulate a distant node: use half of the round trip in each direction, or all of it in one. Data are late but
    /// not slow: what was sent at once arrives at once. A change also applies to data in transit, which stay in order.
    /// Below 1 ms the timer's precision dominates; above the client's own limits, a delay is a silence that ends.
    pub fn delay(&self, direction: Direction, delay: Duration) {
        self.shared.change(|faults| faults.delay(direction, delay));
    }

    /// Limits the bytes per second, over all connections together, in steps of 20 ms. Initially there is no limit.
    ///
    /// To simulate a node with limited capacity: choose a rate low enough to be the bottleneck on any machine. A login
    /// takes some hundred bytes in each direction: with as few per second, no login completes within the usual limits;
    /// 0 forwards nothing. Above what the machine can do (some 100 MB per second) it limits nothing. With
    /// [`Direction::Both`], each direction gets the full rate.
    pub fn throttle(&self, direction: Direction, bytes_per_second: u64) {
        self.shared.change(|faults| faults.throttle(direction, bytes_per_second, Instant::now()));
    }

    /// Forwards nothing any more, and keeps the sockets open: connecting succeeds, since the kernel answers, and
    /// nothing follows. Initially nothing is silent.
    ///
    /// With one direction it makes connections half-open. Silences add up: silencing the other direction does not end
    /// this silence. What arrives meanwhile is delivered after [`restore`](Self::restore), in order, including cancel
    /// requests; unless the connection is [cut](Self::cut).
    pub fn silence(&self, direction: Direction) {
        self.shared.change(|faults| faults.silence(direction));
    }

    /// Falls [silent](Self::silence) in both directions once this many more bytes have gone to clients, over all
    /// connections together. Initially never.
    ///
    /// To simulate a node that is lost in the middle of an answer. A message begins with five bytes for its type and
    /// length: with fewer, the client has seen no part of the answer; with more than the answer has, a later one is cut
    /// in two. 0 is an immediate silence.
    pub fn silence_after(&self, bytes: u64) {
        self.shared.change(|faults| faults.silence_after(bytes));
    }

    /// Resets every connection on both sides. Data in transit are lost. New connections are accepted. (The server sees
    /// an orderly end of a connection that was just being opened.)
    ///
    /// # Errors
    ///
    /// [`Timeout`](ErrorKind::Timeout) if they are not closed after ten seconds.
    pub fn cut(&self) -> Result<()> {
        self.order(Command::Cut)
    }

    /// Stops listening until [`restore`](Self::restore): connecting fails at once. Existing connections stay;
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

    /// Ends all faults, and delivers what was held back. Connections that were cut stay closed.
    ///
    /// # Errors
    ///
    /// [`Unavailable`](ErrorKind::Unavailable) if it [refused](Self::refuse), and another process has taken its port
    /// meanwhile.
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

    /// Returns the traffic so far.
    #[must_use]
    pub fn counts(&self) -> ProxyCounts {
        self.shared.faults().counts
    }

    fn is_listening(&self) -> MutexGuard<'_, bool> {
        self.is_listening.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes the thread carry out an order, and waits for it.
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
