//! The proxy that fails on demand, on plain sockets: each fault, its effect on both ends, and that nothing else happens.

mod postgres;

use std::{
    future::Future,
    io::ErrorKind::{ConnectionRefused, ConnectionReset},
    time::{Duration, Instant},
};

use mainstem::testing::{Direction, FaultProxy};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    time::{sleep, timeout},
};

/// Far longer than anything here may take: what it ends would have hung.
const HANG: Duration = Duration::from_secs(30);

/// Long enough for what is not held back to arrive.
const A_WHILE: Duration = Duration::from_millis(150);

async fn soon<T>(what: impl Future<Output = T>) -> T {
    timeout(HANG, what).await.expect("no hang")
}

/// A server that does what the test does, behind a proxy.
struct Rig {
    server: TcpListener,
    proxy: FaultProxy,
}

impl Rig {
    async fn start() -> Self {
        let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let proxy = FaultProxy::start(server.local_addr().unwrap()).unwrap();
        Self { server, proxy }
    }

    async fn client(&self) -> TcpStream {
        soon(TcpStream::connect(self.proxy.address())).await.unwrap()
    }

    async fn accept(&self) -> TcpStream {
        soon(self.server.accept()).await.unwrap().0
    }

    /// Both ends of a connection.
    async fn pair(&self) -> (TcpStream, TcpStream) {
        let client = self.client().await;
        (client, self.accept().await)
    }

    async fn until_open(&self, connections: u64) {
        let open = async {
            while self.proxy.counts().open != connections {
                sleep(Duration::from_millis(2)).await
            }
        };
        soon(open).await;
    }
}

async fn send(socket: &mut TcpStream, bytes: &[u8]) {
    soon(socket.write_all(bytes)).await.unwrap();
}

async fn receive(socket: &mut TcpStream, bytes: usize) -> Vec<u8> {
    let mut buffer = vec![0; bytes];
    soon(socket.read_exact(&mut buffer)).await.unwrap();
    buffer
}

/// Neither a byte nor an end.
async fn nothing_arrives(socket: &mut TcpStream) {
    let read = timeout(A_WHILE, socket.read_u8()).await;
    read.expect_err("it was to be silent");
}

async fn is_reset(socket: &mut TcpStream) {
    assert_eq!(soon(socket.read_u8()).await.unwrap_err().kind(), ConnectionReset);
}

/// Bytes of which no part is like another one.
fn pattern(bytes: usize) -> Vec<u8> {
    (0..bytes).map(|index| (index.wrapping_mul(2_654_435_761) >> 11) as u8).collect()
}

#[tokio::test]
async fn without_a_fault_bytes_and_ends_go_through_and_are_counted() {
    const MUCH: usize = 9_000_000;
    let rig = Rig::start().await;
    let (client, server) = rig.pair().await;
    let (question, answer) = (pattern(MUCH), pattern(MUCH / 2));
    let (mut client_read, mut client_write) = client.into_split();
    let (mut server_read, mut server_write) = server.into_split();
    let (mut asked, mut answered) = (Vec::new(), Vec::new());
    let asking = async {
        client_write.write_all(&question).await.unwrap();
        client_write.shutdown().await.unwrap();
    };
    let listening = async {
        // The server answers, and ends, only behind the end of the question.
        server_read.read_to_end(&mut asked).await.unwrap();
        server_write.write_all(&answer).await.unwrap();
        server_write.shutdown().await.unwrap();
    };
    soon(async { tokio::join!(asking, listening, client_read.read_to_end(&mut answered)) }).await.2.unwrap();
    assert!(asked == question && answered == answer);
    rig.until_open(0).await;
    let counts = rig.proxy.counts();
    assert_eq!((counts.connections, counts.bytes_to_server, counts.bytes_to_client), (1, MUCH as u64, MUCH as u64 / 2));
}

#[tokio::test]
async fn a_delay_makes_bytes_late_but_not_slow_and_keeps_their_order() {
    const DELAY: Duration = Duration::from_secs(1);
    let rig = Rig::start().await;
    let (mut client, mut server) = rig.pair().await;
    for direction in [Direction::ToServer, Direction::ToClient] {
        rig.proxy.restore().unwrap();
        rig.proxy.delay(direction, DELAY);
        let (slow, quick) = match direction {
            Direction::ToServer => (&mut client, &mut server),
            _ => (&mut server, &mut client),
        };
        let start = Instant::now();
        send(slow, b"!").await;
        send(quick, b"?").await;
        receive(slow, 1).await;
        let undelayed = start.elapsed();
        receive(quick, 1).await;
        assert!(start.elapsed() >= DELAY && undelayed < DELAY, "{undelayed:?}, {:?}", start.elapsed());
        // Thirty packets, each as late as the other ones: the second half does not wait until the first one is delivered.
        let start = Instant::now();
        let sending = async {
            for number in 0..30 {
                slow.write_all(&[number]).await.unwrap();
                sleep(Duration::from_millis(3)).await;
            }
            start.elapsed()
        };
        let (sent, received) = tokio::join!(sending, receive(quick, 30));
        assert!(received.into_iter().eq(0..30));
        assert!((DELAY..DELAY * 8 / 5 + sent).contains(&start.elapsed()), "{:?} after {sent:?}", start.elapsed());
    }
    // Nobody overtakes when the delay changes.
    let delays = [80, 0, 40, 5, 0, 120, 1].map(Duration::from_millis);
    for number in 0..70 {
        rig.proxy.delay(Direction::Both, delays[usize::from(number) % delays.len()]);
        send(&mut client, &[number]).await;
        sleep(Duration::from_millis(2)).await;
    }
    assert!(receive(&mut server, 70).await.into_iter().eq(0..70));
}

#[tokio::test]
async fn a_throttle_holds_for_all_connections_together_and_for_one_direction() {
    let rig = Rig::start().await;
    let (mut one, mut its_server) = rig.pair().await;
    let (mut other, mut others_server) = rig.pair().await;
    rig.proxy.throttle(Direction::ToClient, 40_000);
    let start = Instant::now();
    let (answer, question) = (pattern(10_000), pattern(1_000_000));
    let answers = async {
        tokio::join!(send(&mut its_server, &answer), send(&mut others_server, &answer));
        tokio::join!(receive(&mut one, answer.len()), receive(&mut other, answer.len()))
    };
    let received = soon(answers).await;
    let elapsed = start.elapsed();
    assert!(received.0 == answer && received.1 == answer);
    // Half a second for 20 kB.
    assert!((Duration::from_millis(450)..HANG).contains(&elapsed), "{elapsed:?}");
    let start = Instant::now();
    let (_, received) = tokio::join!(send(&mut one, &question), receive(&mut its_server, question.len()));
    assert!(received == question && start.elapsed() < Duration::from_secs(10), "25 s if it were throttled");
    // Nothing at all, until that is over.
    rig.proxy.throttle(Direction::ToClient, 0);
    send(&mut its_server, b"late").await;
    nothing_arrives(&mut one).await;
    rig.proxy.restore().unwrap();
    assert_eq!(receive(&mut one, 4).await, b"late");
}

#[tokio::test]
async fn behind_a_silence_sockets_stay_open_and_all_is_delivered_when_it_ends() {
    let rig = Rig::start().await;
    let (mut client, mut server) = rig.pair().await;
    let (mut leaving, mut left) = rig.pair().await;
    let (dying, mut bereft) = rig.pair().await;
    rig.proxy.silence(Direction::Both);
    // What comes in many pieces, and more than once.
    for part in pattern(600_000).chunks(10_000) {
        send(&mut client, part).await;
    }
    send(&mut server, b"an answer").await;
    leaving.shutdown().await.unwrap();
    // It ends with unread bytes, which is a reset.
    send(&mut bereft, b"unread").await;
    nothing_arrives(&mut left).await;
    rig.proxy.restore().unwrap();
    soon(dying.peek(&mut [0])).await.unwrap();
    assert_eq!(receive(&mut server, 600_000).await, pattern(600_000));
    assert_eq!(receive(&mut client, 9).await, b"an answer");
    assert_eq!(soon(left.read(&mut [0])).await.unwrap(), 0);
    rig.proxy.silence(Direction::Both);
    drop(dying);
    // The kernel answers for the proxy.
    let mut new = rig.client().await;
    send(&mut new, b"hello").await;
    for socket in [&mut client, &mut server, &mut bereft, &mut new] {
        nothing_arrives(socket).await;
    }
    timeout(A_WHILE, rig.server.accept()).await.expect_err("the server knows nothing of the new one");
    let counts = rig.proxy.counts();
    assert_eq!((counts.connections, counts.open), (4, 4));
    rig.proxy.restore().unwrap();
    assert_eq!(receive(&mut rig.accept().await, 5).await, b"hello");
    is_reset(&mut bereft).await;
    send(&mut client, b"on").await;
    assert_eq!(receive(&mut server, 2).await, b"on");
}

#[tokio::test]
async fn a_half_open_connection_forwards_in_one_direction_only() {
    let rig = Rig::start().await;
    let (mut client, mut server) = rig.pair().await;
    rig.proxy.silence(Direction::ToClient);
    send(&mut client, b"question").await;
    assert_eq!(receive(&mut server, 8).await, b"question");
    send(&mut server, b"answer").await;
    nothing_arrives(&mut client).await;
    rig.proxy.restore().unwrap();
    assert_eq!(receive(&mut client, 6).await, b"answer");
    rig.proxy.silence(Direction::ToServer);
    send(&mut server, b"notice").await;
    assert_eq!(receive(&mut client, 6).await, b"notice");
    send(&mut client, b"thanks").await;
    nothing_arrives(&mut server).await;
    // The client is gone, and does not take what comes: the server must not hear of that either.
    drop(client);
    send(&mut server, b"are you there?").await;
    sleep(A_WHILE).await;
    send(&mut server, b"hello?").await;
    nothing_arrives(&mut server).await;
    // Silences add up.
    rig.proxy.silence(Direction::ToClient);
    nothing_arrives(&mut server).await;
    rig.proxy.restore().unwrap();
    let mut last_words = Vec::new();
    // A reset overtakes what was not read: so it is in real networks.
    let _ = soon(server.read_to_end(&mut last_words)).await;
    assert!(b"thanks".starts_with(&last_words), "{last_words:?}");
    rig.until_open(0).await;
}

#[tokio::test]
async fn the_proxy_goes_silent_after_the_given_number_of_answer_bytes() {
    let rig = Rig::start().await;
    let (mut client, mut server) = rig.pair().await;
    let (answer, left) = (pattern(100_000), 40_003);
    rig.proxy.silence_after(left as u64);
    send(&mut client, &answer).await;
    assert!(receive(&mut server, answer.len()).await == answer, "questions do not count");
    send(&mut server, &answer).await;
    assert!(receive(&mut client, left).await == answer[..left]);
    nothing_arrives(&mut client).await;
    send(&mut client, b"?").await;
    nothing_arrives(&mut server).await;
    assert_eq!(rig.proxy.counts().bytes_to_client, left as u64);
    rig.proxy.restore().unwrap();
    assert!(receive(&mut client, answer.len() - left).await == answer[left..]);
    receive(&mut server, 1).await;
    // It was for once.
    send(&mut server, &answer).await;
    assert!(receive(&mut client, answer.len()).await == answer);
    rig.proxy.silence_after(0);
    send(&mut client, b"?").await;
    nothing_arrives(&mut server).await;
}

#[tokio::test]
async fn a_cut_resets_both_sides_at_once_and_loses_what_was_held() {
    let rig = Rig::start().await;
    for round in 0..20 {
        let mut client = rig.client().await;
        send(&mut client, b"!").await;
        // The server may have heard of the newest client of the last round, too.
        let mut server = loop {
            let mut server = rig.accept().await;
            if soon(server.read(&mut [0])).await.is_ok_and(|bytes| bytes == 1) {
                break server;
            }
        };
        if round % 2 == 1 {
            rig.proxy.silence(Direction::Both);
            send(&mut client, b"lost").await;
            send(&mut server, b"lost").await;
        }
        // It may still wait to be accepted by the proxy.
        let mut newest = rig.client().await;
        rig.proxy.cut().unwrap();
        assert_eq!(rig.proxy.counts().open, 0);
        for socket in [&mut client, &mut server, &mut newest] {
            is_reset(socket).await;
        }
        rig.proxy.restore().unwrap();
    }
}

#[tokio::test]
async fn refused_connections_are_so_at_once_and_the_port_comes_back() {
    let rig = Rig::start().await;
    let (mut client, mut server) = rig.pair().await;
    for _ in 0..20 {
        rig.proxy.refuse().unwrap();
        rig.proxy.refuse().unwrap();
        let error = soon(TcpStream::connect(rig.proxy.address())).await.unwrap_err();
        assert_eq!(error.kind(), ConnectionRefused);
        send(&mut client, b"here").await;
        assert_eq!(receive(&mut server, 4).await, b"here");
        rig.proxy.restore().unwrap();
        rig.proxy.restore().unwrap();
        let (mut new, mut its_server) = rig.pair().await;
        send(&mut its_server, b"x").await;
        receive(&mut new, 1).await;
    }
    // Somebody takes the port.
    rig.proxy.refuse().unwrap();
    let squatter = std::net::TcpListener::bind(rig.proxy.address()).unwrap();
    assert_eq!(rig.proxy.restore().unwrap_err().kind(), mainstem::ErrorKind::Unavailable);
    drop(squatter);
    rig.proxy.restore().unwrap();
    rig.pair().await;
}

#[tokio::test]
async fn ends_and_resets_of_the_server_reach_the_client() {
    let rig = Rig::start().await;
    let (mut client, server) = rig.pair().await;
    drop(server);
    assert_eq!(soon(client.read(&mut [0])).await.unwrap(), 0);
    drop(client);
    rig.until_open(0).await;
    let (mut client, server) = rig.pair().await;
    send(&mut client, b"unread").await;
    soon(server.peek(&mut [0])).await.unwrap();
    drop(server);
    is_reset(&mut client).await;
    let target = rig.server.local_addr().unwrap();
    let Rig { server, proxy } = rig;
    drop(server);
    // Nobody listens behind it.
    match soon(TcpStream::connect(proxy.address())).await {
        Ok(mut client) => is_reset(&mut client).await,
        Err(error) => assert_eq!(error.kind(), ConnectionReset),
    }
    let rig = Rig { server: TcpListener::bind(target).await.unwrap(), proxy };
    rig.pair().await;
}

#[tokio::test]
async fn nothing_outlives_it() {
    let rig = Rig::start().await;
    let (mut client, mut server) = rig.pair().await;
    let (address, thread) = (rig.proxy.address(), format!("proxy-{}", rig.proxy.port()));
    let threads = || -> Vec<String> {
        let tasks = std::fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
        tasks.filter_map(|task| std::fs::read_to_string(task.path().join("comm")).ok()).collect()
    };
    let runs = || threads().iter().any(|name| name.trim() == thread);
    assert!(runs() || !cfg!(target_os = "linux"));
    rig.proxy.delay(Direction::Both, HANG);
    rig.proxy.throttle(Direction::Both, 1);
    send(&mut client, b"on the way").await;
    drop(rig.proxy);
    assert!(!runs());
    assert_eq!(soon(TcpStream::connect(address)).await.unwrap_err().kind(), ConnectionRefused);
    for socket in [&mut client, &mut server] {
        assert!(matches!(soon(socket.read(&mut [0])).await, Ok(0) | Err(_)));
    }
}
