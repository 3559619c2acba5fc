//! A network between two programs that can be slow, silent, cut or half closed.
//!
//! Works on whole connections and knows no protocol, so the same link stands before PostgreSQL and
//! before a broker.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

/// Bytes that are passed on at once; a slow link delays each such piece.
const PIECE: usize = 64 << 10;

/// What becomes of bytes.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Weather {
    #[default]
    Clear,
    /// Each piece is late by so much, in both directions.
    Slow(Duration),
    /// Nothing passes and nobody is told: connections stay, new ones hang.
    Silent,
    /// Connections are reset, new ones are refused.
    Cut,
}

/// Which half of every present connection ends.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Half {
    /// The server sees the end of the stream, and can still answer.
    ToServer,
    /// The client sees the end of the stream, and can still send.
    ToClient,
}

#[derive(Default)]
struct State {
    weather: Weather,
    /// Passed on in both directions.
    bytes: u64,
    connections: Vec<Connection>,
    /// Where new connections lead.
    target: String,
}

struct Connection {
    client: TcpStream,
    server: TcpStream,
}

/// Listens until the process ends. Clones are the same link.
#[derive(Clone)]
pub struct Link {
    /// `127.0.0.1:PORT`, where clients connect.
    pub address: String,
    shared: Arc<(Mutex<State>, Condvar)>,
}

impl Link {
    /// A link to `target` on a free port.
    ///
    /// # Panics
    /// When there is none.
    #[must_use]
    pub fn to(target: &str) -> Self {
        Self::on(0, target)
    }

    /// A link to `target`, which may start later, on a port of one's choice.
    ///
    /// # Panics
    /// When the port is taken.
    #[must_use]
    pub fn on(port: u16, target: &str) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", port)).expect("the link's port is free");
        let address = listener.local_addr().expect("an address").to_string();
        let state = State { target: target.into(), ..State::default() };
        let link = Self { address, shared: Arc::new((Mutex::new(state), Condvar::new())) };
        let accepting = link.clone();
        thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let link = accepting.clone();
                thread::spawn(move || link.connect(client));
            }
        });
        link
    }

    /// Changes the weather, for connections of now and later.
    pub fn set(&self, weather: Weather) {
        let mut state = self.state();
        state.weather = weather;
        if weather == Weather::Cut {
            for connection in state.connections.drain(..) {
                reset(&connection.client);
                reset(&connection.server);
            }
        }
        self.shared.1.notify_all();
    }

    /// New connections lead to another server from now on.
    pub fn lead_to(&self, target: &str) {
        self.state().target = target.into();
    }

    /// Bytes that were passed on so far, in both directions.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.state().bytes
    }

    /// Ends one half of every present connection.
    pub fn half_close(&self, half: Half) {
        for connection in &self.state().connections {
            let end = match half {
                Half::ToServer => &connection.server,
                Half::ToClient => &connection.client,
            };
            // Gone by itself: all the better.
            let _ = end.shutdown(Shutdown::Write);
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.shared.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until bytes may pass. `None`: never again on this connection.
    fn passage(&self) -> Option<Duration> {
        let mut state = self.state();
        while state.weather == Weather::Silent {
            state = self.shared.1.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        match state.weather {
            Weather::Cut => None,
            Weather::Slow(delay) => Some(delay),
            Weather::Clear | Weather::Silent => Some(Duration::ZERO),
        }
    }

    fn connect(&self, client: TcpStream) {
        if self.passage().is_none() {
            return reset(&client);
        }
        let target = self.state().target.clone();
        let Ok(server) = TcpStream::connect(&target) else { return reset(&client) };
        let _ = (client.set_nodelay(true), server.set_nodelay(true));
        let copy = |stream: &TcpStream| stream.try_clone().expect("a socket");
        let connection = Connection { client: copy(&client), server: copy(&server) };
        {
            let mut state = self.state();
            // Only those that still live are worth keeping.
            state.connections.retain(|it| it.client.peer_addr().is_ok());
            state.connections.push(connection);
        }
        let (back, forth) = (self.clone(), self.clone());
        let (answers, asker) = (copy(&server), copy(&client));
        thread::spawn(move || back.pump(answers, asker));
        forth.pump(client, server);
    }

    /// Passes bytes on until one side ends; then the other's half ends, too.
    fn pump(&self, mut from: TcpStream, mut to: TcpStream) {
        let mut piece = vec![0; PIECE];
        while let Ok(length @ 1..) = from.read(&mut piece) {
            let Some(delay) = self.passage() else { break };
            thread::sleep(delay);
            self.state().bytes += length as u64;
            if to.write_all(&piece[..length]).is_err() {
                return;
            }
        }
        let _ = to.shutdown(Shutdown::Write);
    }
}

/// As a router does that has forgotten a connection.
fn reset(stream: &TcpStream) {
    // The peer may be gone already.
    let _ = stream.shutdown(Shutdown::Both);
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;

    const SOON: Duration = Duration::from_secs(60);

    /// Sends back what comes, until the end.
    fn echo() -> String {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address").to_string();
        thread::spawn(move || {
            for mut stream in listener.incoming().map_while(Result::ok) {
                thread::spawn(move || {
                    let mut back = stream.try_clone().expect("a socket");
                    let _ = std::io::copy(&mut stream, &mut back);
                    // Its last words, so that a half close can be heard.
                    let _ = back.write_all(b"end");
                    let _ = back.shutdown(Shutdown::Both);
                });
            }
        });
        address
    }

    fn connect(link: &Link) -> TcpStream {
        let stream = TcpStream::connect(&link.address).expect("the link listens");
        stream.set_read_timeout(Some(SOON)).expect("a socket");
        stream
    }

    fn ask(stream: &mut TcpStream) -> std::io::Result<[u8; 3]> {
        stream.write_all(b"abc")?;
        let mut answer = [0; 3];
        stream.read_exact(&mut answer)?;
        Ok(answer)
    }

    #[test]
    fn bytes_pass_and_come_late_when_it_is_slow() {
        let link = Link::to(&echo());
        let mut stream = connect(&link);
        assert_eq!(ask(&mut stream).expect("an answer"), *b"abc");
        let late = Duration::from_millis(30);
        link.set(Weather::Slow(late));
        let asked = Instant::now();
        assert_eq!(ask(&mut stream).expect("an answer"), *b"abc");
        assert!(2 * late <= asked.elapsed());
    }

    #[test]
    fn silence_keeps_everything_for_later() {
        let link = Link::to(&echo());
        let mut stream = connect(&link);
        link.set(Weather::Silent);
        stream.write_all(b"abc").expect("the link takes it");
        stream.set_read_timeout(Some(Duration::from_millis(50))).expect("a socket");
        let mut answer = [0; 3];
        assert!(stream.read_exact(&mut answer).is_err(), "it is not silent");
        link.set(Weather::Clear);
        stream.set_read_timeout(Some(SOON)).expect("a socket");
        stream.read_exact(&mut answer).expect("what was kept comes");
        assert_eq!(answer, *b"abc");
    }

    #[test]
    fn a_cut_ends_what_is_there_and_what_comes() {
        let link = Link::to(&echo());
        let mut stream = connect(&link);
        ask(&mut stream).expect("an answer");
        link.set(Weather::Cut);
        assert!(ask(&mut stream).is_err());
        assert!(ask(&mut connect(&link)).is_err());
        link.set(Weather::Clear);
        ask(&mut connect(&link)).expect("an answer");
    }

    #[test]
    fn a_half_that_ends_leaves_the_other() {
        let link = Link::to(&echo());
        let mut stream = connect(&link);
        ask(&mut stream).expect("an answer");
        link.half_close(Half::ToServer);
        let mut last = Vec::new();
        stream.read_to_end(&mut last).expect("the other half");
        assert_eq!(last, b"end");
    }
}
