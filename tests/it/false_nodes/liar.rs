//! A proxy in front of a real server that lies for it. It changes queries on their way there, so that the server itself gives the false
//! answer, and corrupts answers on their way back, at a chosen message.

use std::{
    io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::watch,
};

/// What becomes of a message, and of what follows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// Bytes that are no message.
    Garbage,
    /// A message of this kind whose inside is no such thing.
    Malformed,
    /// The same message without an end.
    Endless,
    /// The head of a message of 2 GiB, a part of it, and then nothing.
    Huge,
    /// An error of the server.
    Error,
    /// Two of it: more than was asked for.
    Twice,
    /// It is left out.
    LeftOut,
    /// The connection ends in the middle of it.
    Cut,
}

impl Fault {
    pub(super) const ALL: [Self; 8] =
        [Self::Garbage, Self::Malformed, Self::Endless, Self::Huge, Self::Error, Self::Twice, Self::LeftOut, Self::Cut];
}

#[derive(Clone, Default)]
struct Lies {
    /// In questions, what is put in the place of what.
    questions: Vec<Question>,
    /// The parameter `in_hot_standby`.
    in_hot_standby: Option<&'static str>,
    /// What is spoilt: the first message of a kind, in each connection.
    fault: Option<(u8, Fault)>,
}

/// What is put in the place of what, and how often it was: a text that no question has any more would be no lie at all.
#[derive(Clone)]
struct Question {
    old: String,
    new: String,
    told: Arc<AtomicU64>,
}

pub(super) struct Liar {
    address: SocketAddr,
    /// With others than when they began, connections end.
    lies: watch::Sender<Lies>,
    sent: Arc<AtomicU64>,
    asked: Arc<AtomicU64>,
    /// Messages that have been spoilt.
    spoilt: Arc<AtomicU64>,
}

/// What a client may ask for in front of its log-in.
const SSL_REQUEST: u32 = 80_877_103;
const GSSENC_REQUEST: u32 = 80_877_104;

impl Liar {
    pub(super) async fn before(port: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let lies = watch::Sender::new(Lies::default());
        let [sent, spoilt, asked] = std::array::from_fn(|_| Arc::<AtomicU64>::default());
        let (told, counted) = (lies.subscribe(), [&sent, &spoilt, &asked].map(Arc::clone));
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let (mut told, counted) = (told.clone(), counted.clone());
                // Both at once: what is told from now on is another lie, however soon it comes.
                let lies = told.borrow_and_update().clone();
                tokio::spawn(async move {
                    tokio::select! {
                        _ = serve(client, port, &lies, &counted) => {}
                        _ = told.changed() => {}
                    }
                });
            }
        });
        Self { address, lies, sent, asked, spoilt }
    }

    /// `url`, of the server itself, through here.
    pub(super) fn url(&self, url: &str) -> String {
        let (login, rest) = url.split_once('@').unwrap();
        let (_, database) = rest.split_once('/').unwrap();
        format!("{login}@{}/{database}", self.address)
    }

    pub(super) fn name(&self) -> String {
        self.address.to_string()
    }

    /// From now on, these lies; whoever is connected has to connect anew.
    pub(super) fn tells(&self, questions: &[(&str, &str)], in_hot_standby: Option<&'static str>) {
        let question = |(old, new): &(&str, &str)| Question {
            old: (*old).to_owned(),
            new: (*new).to_owned(),
            told: Arc::default(),
        };
        let questions = questions.iter().map(question).collect();
        self.replace(Lies { questions, in_hot_standby, fault: None });
    }

    /// From now on, the first message of this kind of each connection is spoilt.
    pub(super) fn spoils(&self, kind: u8, fault: Fault) {
        self.replace(Lies { fault: Some((kind, fault)), ..Lies::default() });
    }

    pub(super) fn is_honest(&self) {
        self.replace(Lies::default());
    }

    /// The former ones must have been told.
    fn replace(&self, lies: Lies) {
        let former = self.lies.send_replace(lies);
        assert_eq!(former.untold(), [""; 0], "no question has had this in it");
    }

    /// Statements that were to be run, prepared before or not.
    pub(super) fn asked(&self) -> u64 {
        self.asked.load(Ordering::Relaxed)
    }

    /// Messages that have been spoilt.
    pub(super) fn spoilt(&self) -> u64 {
        self.spoilt.load(Ordering::Relaxed)
    }

    /// Bytes that have been sent to clients.
    pub(super) fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }
}

impl Lies {
    fn untold(&self) -> Vec<&str> {
        let untold = |question: &&Question| question.told.load(Ordering::Relaxed) == 0;
        self.questions.iter().filter(untold).map(|question| &*question.old).collect()
    }
}

impl Drop for Liar {
    /// The last ones, too.
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.replace(Lies::default());
        }
    }
}

async fn serve(client: TcpStream, port: u16, lies: &Lies, counted: &[Arc<AtomicU64>; 3]) -> io::Result<()> {
    let [sent, spoilt, asked] = counted;
    let server = TcpStream::connect(("127.0.0.1", port)).await?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let ((mut from_client, mut to_client), (from_server, mut to_server)) = (client.into_split(), server.into_split());
    // The first message has no kind.
    loop {
        let length = from_client.read_u32().await?;
        let mut body = vec![0; length as usize - 4];
        from_client.read_exact(&mut body).await?;
        match u32::from_be_bytes(body[..4].try_into().unwrap()) {
            SSL_REQUEST | GSSENC_REQUEST => to_client.write_all(b"N").await?,
            _ => {
                to_server.write_u32(length).await?;
                to_server.write_all(&body).await?;
                break;
            }
        }
    }
    tokio::select! {
        asked = questions(&mut from_client, &mut to_server, lies, asked) => asked,
        answered = answers(from_server, &mut to_client, lies, [sent, spoilt]) => answered,
    }
}

struct Message {
    kind: u8,
    body: Vec<u8>,
}

async fn next(from: &mut OwnedReadHalf) -> io::Result<Message> {
    let (kind, length) = (from.read_u8().await?, from.read_u32().await?);
    let mut body = vec![0; length as usize - 4];
    from.read_exact(&mut body).await?;
    Ok(Message { kind, body })
}

fn encoded(kind: u8, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len() + 4).unwrap().to_be_bytes();
    [&[kind][..], &length, body].concat()
}

async fn questions(
    from: &mut OwnedReadHalf,
    to: &mut OwnedWriteHalf,
    lies: &Lies,
    asked: &AtomicU64,
) -> io::Result<()> {
    loop {
        let Message { kind, mut body } = next(from).await?;
        asked.fetch_add(u64::from(matches!(kind, b'E' | b'Q')), Ordering::Relaxed);
        if matches!(kind, b'P' | b'Q') {
            // What is no text in it comes behind the last zero, and is as it was.
            for Question { old, new, told } in &lies.questions {
                let (changed, times) = replaced(&body, old.as_bytes(), new.as_bytes());
                told.fetch_add(times, Ordering::Relaxed);
                body = changed;
            }
        }
        to.write_all(&encoded(kind, &body)).await?;
    }
}

/// And how often.
fn replaced(text: &[u8], old: &[u8], new: &[u8]) -> (Vec<u8>, u64) {
    let (mut result, mut rest, mut times) = (Vec::new(), text, 0);
    while let Some(at) = rest.windows(old.len()).position(|window| window == old) {
        result.extend_from_slice(&rest[..at]);
        result.extend_from_slice(new);
        rest = &rest[at + old.len()..];
        times += 1;
    }
    result.extend_from_slice(rest);
    (result, times)
}

async fn answers(
    mut from: OwnedReadHalf,
    to: &mut OwnedWriteHalf,
    lies: &Lies,
    counted: [&AtomicU64; 2],
) -> io::Result<()> {
    let ([sent, spoils], mut fault) = (counted, lies.fault);
    loop {
        let Message { kind, mut body } = next(&mut from).await?;
        if let (b'S', Some(told)) = (kind, lies.in_hot_standby)
            && body.starts_with(b"in_hot_standby\0")
        {
            body = format!("in_hot_standby\0{told}\0").into_bytes();
        }
        let message = encoded(kind, &body);
        let spoilt = fault.take_if(|(spoilt, _)| *spoilt == kind);
        let Some((_, spoilt)) = spoilt else {
            write(to, &message, sent).await?;
            continue;
        };
        spoils.fetch_add(1, Ordering::Relaxed);
        match spoilt {
            Fault::Garbage => write(to, &[0xff; 4096], sent).await?,
            Fault::Malformed => write(to, &encoded(kind, &[0xff; 64]), sent).await?,
            Fault::Endless => {
                let many = message.repeat(1 + 16_384 / message.len());
                loop {
                    write(to, &many, sent).await?;
                }
            }
            Fault::Huge => {
                let head = [&[kind][..], &0x7fff_ffff_u32.to_be_bytes()].concat();
                write(to, &head, sent).await?;
                write(to, &[0; 1 << 20], sent).await?;
                std::future::pending::<()>().await;
            }
            Fault::Error => {
                write(to, &encoded(b'E', b"SERROR\0VERROR\0CXX000\0Mof a server that lies\0\0"), sent).await?;
                // Until the answer's end nothing more comes of it.
                while next(&mut from).await?.kind != b'Z' {}
                write(to, &encoded(b'Z', b"I"), sent).await?;
            }
            Fault::Twice => write(to, &message.repeat(2), sent).await?,
            Fault::LeftOut => {}
            Fault::Cut => return write(to, &message[..message.len() / 2], sent).await,
        }
    }
}

async fn write(to: &mut OwnedWriteHalf, bytes: &[u8], sent: &AtomicU64) -> io::Result<()> {
    to.write_all(bytes).await?;
    sent.fetch_add(bytes.len() as u64, Ordering::Relaxed);
    Ok(())
}
