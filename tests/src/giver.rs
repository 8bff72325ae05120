//! A server that gives out keys or tokens that are good for a while, and keeps how it was asked. One thread a connection.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::gcs::wire::{Answer, Connection, Request};

/// A running service. What it answers is its maker's: [`crate::entra`], [`crate::sts`].
pub struct Giver {
    at: SocketAddr,
    book: Arc<Book>,
}

/// What the answers depend on, and who asked.
pub(crate) struct Book {
    lasts: AtomicI64,
    asked: Mutex<Vec<String>>,
}

impl Giver {
    pub(crate) fn start(answer: impl Fn(&Request, &Book) -> Answer + Send + Sync + 'static) -> Self {
        Self::start_at("127.0.0.1:0", answer)
    }

    pub(crate) fn start_at(
        address: &str,
        answer: impl Fn(&Request, &Book) -> Answer + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind(address).expect("a port");
        let at = listener.local_addr().expect("its address");
        let book = Arc::new(Book { lasts: 3600.into(), asked: Mutex::default() });
        let (open, answer) = (book.clone(), Arc::new(answer));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (book, answer) = (open.clone(), answer.clone());
                std::thread::spawn(move || serve(stream, |request| answer(request, &book)));
            }
        });
        Self { at, book }
    }

    /// `http://127.0.0.1:PORT`
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.at)
    }

    /// From now on what it gives out is good for so many seconds; below zero it has expired already.
    pub fn lasting(&self, seconds: i64) {
        self.book.lasts.store(seconds, Ordering::SeqCst);
    }

    /// How it was asked, each time it gave.
    pub fn asked(&self) -> Vec<String> {
        self.book.asked.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Book {
    pub(crate) fn enter(&self, how: String) {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).push(how);
    }

    /// In seconds.
    pub(crate) fn lasts(&self) -> i64 {
        self.lasts.load(Ordering::SeqCst)
    }
}

fn serve(stream: TcpStream, answer: impl Fn(&Request) -> Answer) {
    let mut connection = Connection::new(stream);
    while let Some(request) = connection.next_request() {
        if !connection.send(&request, &answer(&request)) {
            return;
        }
    }
}
