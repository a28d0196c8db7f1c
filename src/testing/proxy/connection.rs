//! One connection through the proxy: two sockets, and the data in transit between them.

use std::{io, pin::pin, sync::Arc, time::Instant};

use bytes::{Buf, Bytes};
use futures_util::future::{Either, select, try_join};
use tokio::{
    io::AsyncWriteExt,
    net::{
        TcpStream,
        tcp::{ReadHalf, WriteHalf},
    },
    sync::{mpsc, watch},
    time::timeout_at,
};

use super::{
    faults::{Leave, Way},
    shared::Shared,
};

/// The most bytes in one piece.
const PIECE: usize = 16 * 1024;

/// The most pieces in transit in one direction, 4 MiB: about what two kernels buffer for a connection. After that the
/// sender waits.
const PIECES: usize = 256;

/// A piece of data, and when it arrived.
struct Piece {
    arrived: Instant,
    what: What,
}

enum What {
    Data(Bytes),
    /// The sender has ended its direction.
    End,
    /// The sender has reset the connection.
    Reset,
}

/// The connection has to be reset on both sides.
struct Broken;

/// A connection that counts as open until it is dropped.
pub(super) struct Opened {
    shared: Arc<Shared>,
    /// The number of cuts before it.
    cuts: u64,
}

impl Opened {
    pub(super) fn new(shared: &Arc<Shared>) -> Self {
        let mut faults = shared.faults();
        faults.counts.connections += 1;
        faults.counts.open += 1;
        Self { shared: Arc::clone(shared), cuts: faults.cuts }
    }

    /// Runs until both sides have ended, one has failed, or the connection is cut.
    pub(super) async fn serve(self, mut client: TcpStream) {
        let mut cuts = self.shared.subscribe();
        let mut server = None;
        let has_ended = {
            let cut = pin!(cuts.wait_for(|cuts| *cuts > self.cuts));
            let carried = pin!(self.carry(&mut client, &mut server));
            matches!(select(cut, carried).await, Either::Right((Ok(()), _)))
        };
        if !has_ended {
            reset(&client);
            server.iter().for_each(reset);
        }
        // The sockets are closed before the connection is no longer counted: `self` is dropped last.
        drop((client, server));
    }

    async fn carry(&self, client: &mut TcpStream, server: &mut Option<TcpStream>) -> Result<(), Broken> {
        // A server notices a connection by its first packet.
        self.until_open(Way::ToServer).await;
        let server = server.insert(TcpStream::connect(self.shared.target).await.map_err(|_| Broken)?);
        // Many small packets: none should wait for the next.
        let _ = (client.set_nodelay(true), server.set_nodelay(true));
        let ((from_client, to_client), (from_server, to_server)) = (client.split(), server.split());
        let there = self.lane(Way::ToServer, from_client, to_server);
        let back = self.lane(Way::ToClient, from_server, to_client);
        try_join(there, back).await.map(drop)
    }

    async fn lane(&self, way: Way, from: ReadHalf<'_>, to: WriteHalf<'_>) -> Result<(), Broken> {
        // Reading continues while the first in the queue waits: a delay must not become a throttle.
        let (sender, receiver) = mpsc::channel(PIECES);
        let read = async {
            read(from, sender).await;
            Ok(())
        };
        try_join(read, self.write(way, to, receiver)).await.map(drop)
    }

    async fn write(&self, way: Way, mut to: WriteHalf<'_>, mut pieces: mpsc::Receiver<Piece>) -> Result<(), Broken> {
        let mut changes = self.shared.subscribe();
        while let Some(Piece { arrived, what }) = pieces.recv().await {
            let sent = match what {
                What::Data(data) => self.send(way, &to, &mut changes, arrived, data).await,
                What::End => {
                    self.until_due(way, &mut changes, arrived).await;
                    to.shutdown().await
                }
                What::Reset => {
                    self.until_due(way, &mut changes, arrived).await;
                    return Err(Broken);
                }
            };
            if sent.is_err() {
                // A receiver that does not accept it has answered with a reset, which travels the other way.
                self.until_open(way.back()).await;
                return Err(Broken);
            }
        }
        Ok(())
    }

    async fn send(
        &self,
        way: Way,
        to: &WriteHalf<'_>,
        changes: &mut watch::Receiver<u64>,
        arrived: Instant,
        mut data: Bytes,
    ) -> io::Result<()> {
        while data.has_remaining() {
            changes.mark_unchanged();
            match self.try_send(way, to, arrived, &data)? {
                Some(Leave::Now(sent)) => data.advance(sent),
                Some(later) => wait(later, changes).await,
                None => to.writable().await?,
            }
        }
        Ok(())
    }

    /// Sends what may be forwarded now; `None` if the socket does not accept it. Under the lock: an order given
    /// meanwhile applies to every later byte.
    fn try_send(&self, way: Way, to: &WriteHalf<'_>, arrived: Instant, data: &[u8]) -> io::Result<Option<Leave>> {
        let mut faults = self.shared.faults();
        if faults.cuts > self.cuts {
            return Ok(Some(Leave::OnChange));
        }
        match faults.leave(way, arrived, data.len(), Instant::now()) {
            Leave::Now(allowed) => match to.try_write(&data[..allowed]) {
                Ok(sent) => {
                    faults.left(way, sent);
                    Ok(Some(Leave::Now(sent)))
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
                Err(error) => Err(error),
            },
            later => Ok(Some(later)),
        }
    }

    /// Waits until something without bytes that arrived at that time may be forwarded.
    async fn until_due(&self, way: Way, changes: &mut watch::Receiver<u64>, arrived: Instant) {
        loop {
            changes.mark_unchanged();
            let leave = self.shared.faults().leave(way, arrived, 0, Instant::now());
            match leave {
                Leave::Now(_) => return,
                later => wait(later, changes).await,
            }
        }
    }

    async fn until_open(&self, way: Way) {
        let mut changes = self.shared.subscribe();
        loop {
            changes.mark_unchanged();
            if !self.shared.faults().is_silent(way) {
                return;
            }
            wait(Leave::OnChange, &mut changes).await;
        }
    }
}

impl Drop for Opened {
    fn drop(&mut self) {
        self.shared.faults().counts.open -= 1;
    }
}

async fn read(from: ReadHalf<'_>, pieces: mpsc::Sender<Piece>) {
    let mut buffer = vec![0; PIECE];
    while let Ok(room) = pieces.reserve().await {
        let what = loop {
            let ready = from.readable().await;
            match ready.and_then(|()| from.try_read(&mut buffer)) {
                Ok(0) => break What::End,
                Ok(bytes) => break What::Data(Bytes::copy_from_slice(&buffer[..bytes])),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(_) => break What::Reset,
            }
        };
        let is_last = !matches!(what, What::Data(_));
        room.send(Piece { arrived: Instant::now(), what });
        if is_last {
            return;
        }
    }
}

/// Waits for the moment, or for a new order. It ends with the proxy: then it is no longer polled.
async fn wait(leave: Leave, changes: &mut watch::Receiver<u64>) {
    match leave {
        Leave::At(at) => drop(timeout_at(at.into(), changes.changed()).await),
        _ => drop(changes.changed().await),
    }
}

/// Closes a connection in such a way that the other side sees an error, as from a lost server, and not an orderly end.
pub(super) fn reset(socket: &TcpStream) {
    // Its replacement is newer than the oldest tokio version that this crate supports.
    #[expect(deprecated, reason = "of no time to linger: it blocks nobody")]
    let _ = socket.set_linger(Some(std::time::Duration::ZERO));
}
