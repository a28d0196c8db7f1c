//! A proxy to a server that records how each connection begins.

use std::{
    net::Ipv4Addr,
    sync::{Arc, Mutex},
};

use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
};

pub(crate) struct Recorder {
    port: u16,
    words: Arc<Mutex<Vec<FirstWord>>>,
}

/// The code in the first message of a connection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FirstWord(u32);

impl FirstWord {
    pub(crate) fn is_ssl_request(self) -> bool {
        self.0 == 80_877_103
    }
}

impl Recorder {
    pub(crate) async fn start(to: u16) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let words = Arc::new(Mutex::new(Vec::new()));
        let recorded = Arc::clone(&words);
        tokio::spawn(async move {
            loop {
                let (mut client, _) = listener.accept().await.unwrap();
                let recorded = Arc::clone(&recorded);
                tokio::spawn(async move {
                    let mut message = [0; 8];
                    while client.peek(&mut message).await.unwrap() < message.len() {}
                    let [.., a, b, c, d] = message;
                    recorded.lock().unwrap().push(FirstWord(u32::from_be_bytes([a, b, c, d])));
                    let mut server = TcpStream::connect((Ipv4Addr::LOCALHOST, to)).await.unwrap();
                    let _ = copy_bidirectional(&mut client, &mut server).await;
                });
            }
        });
        Self { port, words }
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    pub(crate) fn first_words(&self) -> Vec<FirstWord> {
        self.words.lock().unwrap().clone()
    }
}
