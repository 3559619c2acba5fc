//! Between the clients and a broker: passes requests on, and on order delays the next records or the next
//! commit, or holds a commit back and cuts the connection, so that the client sends it again and the first copy
//! can come later; or makes an abort of it, as a broker does that forgets.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

/// EndTxn in the Kafka protocol.
const END_TXN: [u8; 2] = [0, 26];
/// Produce.
const PRODUCE: [u8; 2] = [0, 0];

/// What becomes of the next commit, or of the next records.
#[derive(Clone, Debug, Default)]
pub(crate) enum Plan {
    #[default]
    Pass,
    Delay(Duration),
    HoldAndCut,
    /// Again and again, with one commit of many: held back as by [`Self::HoldAndCut`], its first copy comes while the same
    /// producer writes its next records.
    ComeLate(Late),
    DelayRecords(Duration),
    /// The commit of this transactional id becomes an abort, which the client takes for its commit; then [`Self::Aborted`].
    Abort(String),
    /// Everything passes.
    Aborted,
    /// As [`Self::Abort`], but other commits do not come through; then [`Self::Cut`].
    AbortAndCut(String),
    /// Whoever asks anything loses its connection, until there is another plan.
    Cut,
}

/// What [`Plan::ComeLate`] does, and where it stands.
#[derive(Clone, Debug)]
pub(crate) struct Late {
    /// Commits of transactional ids that begin so.
    prefix: String,
    /// Of so many commits one.
    every: u32,
    seen: u32,
    held: Option<Held>,
    /// What the broker answered to the late copies.
    answers: Vec<i16>,
}

#[derive(Clone, Debug)]
struct Held {
    id: String,
    request: Vec<u8>,
    /// Its producer's requests with records since.
    records: u32,
}

impl Late {
    pub(crate) fn new(prefix: &str, every: u32) -> Self {
        Self { prefix: prefix.into(), every, seen: 0, held: None, answers: Vec::new() }
    }

    /// Whether a commit goes on.
    fn judge(&mut self, request: &[u8]) -> bool {
        let id = transactional_id(request);
        if self.held.is_some() || !id.starts_with(&self.prefix) {
            return true;
        }
        self.seen += 1;
        let goes_on = !self.seen.is_multiple_of(self.every);
        if !goes_on {
            self.held = Some(Held { id, request: request.to_vec(), records: 0 });
        }
        goes_on
    }

    /// A request with records: before the second one of the next transaction the held commit comes.
    fn due(&mut self, request: &[u8]) -> Option<Vec<u8>> {
        let head = &request[..request.len().min(200)];
        let held = self.held.as_mut().filter(|it| has(head, &it.id))?;
        held.records += 1;
        self.held.take_if(|it| it.records == 2).map(|it| it.request)
    }
}

#[derive(Debug, Default)]
struct State {
    plan: Plan,
    held: Option<Vec<u8>>,
}

/// Works until the process ends.
#[derive(Clone, Debug)]
pub(crate) struct Proxy {
    broker: String,
    state: Arc<Mutex<State>>,
}

impl Proxy {
    /// The broker may start later.
    pub(crate) fn start(port: u16, broker: &str) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", port)).expect("the proxy's port is free");
        let proxy = Self { broker: broker.into(), state: Arc::default() };
        let accepting = proxy.clone();
        thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let proxy = accepting.clone();
                thread::spawn(move || proxy.pass(client));
            }
        });
        proxy
    }

    /// Once.
    pub(crate) fn plan(&self, plan: Plan) {
        self.state.lock().expect("not poisoned").plan = plan;
    }

    fn is_cut(&self) -> bool {
        matches!(self.state.lock().expect("not poisoned").plan, Plan::Cut)
    }

    /// Whether a commit has become an abort.
    pub(crate) fn has_aborted(&self) -> bool {
        matches!(self.state.lock().expect("not poisoned").plan, Plan::Cut | Plan::Aborted)
    }

    /// Sends the held commit to the broker; its answer is an error code, 0 where it was carried out.
    pub(crate) fn deliver_held(&self) -> i16 {
        let held = self.state.lock().expect("not poisoned").held.take();
        self.end_transaction(&held.expect("a commit was held back"))
    }

    /// What the broker answered to the copies that came late by [`Plan::ComeLate`].
    pub(crate) fn late_answers(&self) -> Vec<i16> {
        let state = self.state.lock().expect("not poisoned");
        let Plan::ComeLate(late) = &state.plan else { panic!("{:?} is another plan", state.plan) };
        late.answers.clone()
    }

    fn end_transaction(&self, request: &[u8]) -> i16 {
        let mut broker = TcpStream::connect(&self.broker).expect("the broker answers");
        broker.write_all(request).expect("the broker takes it");
        let answer = read_frame(&mut broker).expect("an answer");
        // Length, correlation id, throttle time, error code (EndTxn, versions 0 to 2).
        i16::from_be_bytes([answer[12], answer[13]])
    }

    fn pass(&self, mut client: TcpStream) {
        let Ok(mut broker) = TcpStream::connect(&self.broker) else { return };
        let _ = (client.set_nodelay(true), broker.set_nodelay(true));
        let (mut answers, mut back) =
            (broker.try_clone().expect("a socket"), client.try_clone().expect("a socket"));
        thread::spawn(move || {
            let _ = io::copy(&mut answers, &mut back);
            let _ = back.shutdown(Shutdown::Both);
        });
        while let Ok(mut request) = read_frame(&mut client) {
            let goes_on = match request.get(4..6) {
                _ if self.is_cut() => false,
                Some(key) if *key == END_TXN => self.judge(&mut request),
                Some(key) if *key == PRODUCE => self.judge_records(&request),
                _ => true,
            };
            if !goes_on {
                break;
            }
            if broker.write_all(&request).is_err() {
                break;
            }
        }
        let _ = (client.shutdown(Shutdown::Both), broker.shutdown(Shutdown::Both));
    }

    /// Whether a commit goes on to the broker.
    fn judge(&self, request: &mut [u8]) -> bool {
        let mut state = self.state.lock().expect("not poisoned");
        match std::mem::take(&mut state.plan) {
            Plan::Pass => true,
            Plan::Delay(time) => {
                drop(state);
                thread::sleep(time);
                true
            }
            Plan::HoldAndCut => {
                state.held = Some(request.to_vec());
                false
            }
            Plan::AbortAndCut(id) if has(request, &id) => {
                abort(request);
                state.plan = Plan::Cut;
                true
            }
            Plan::Abort(id) if has(request, &id) => {
                abort(request);
                state.plan = Plan::Aborted;
                true
            }
            Plan::ComeLate(mut late) => {
                let goes_on = late.judge(request);
                state.plan = Plan::ComeLate(late);
                goes_on
            }
            plan @ (Plan::DelayRecords(_) | Plan::Abort(_) | Plan::Aborted) => {
                state.plan = plan;
                true
            }
            plan @ (Plan::AbortAndCut(_) | Plan::Cut) => {
                state.plan = plan;
                false
            }
        }
    }

    /// They go on in any case.
    fn judge_records(&self, request: &[u8]) -> bool {
        let mut state = self.state.lock().expect("not poisoned");
        if let Plan::ComeLate(late) = &mut state.plan
            && let Some(commit) = late.due(request)
        {
            late.answers.push(self.end_transaction(&commit));
        }
        if let Plan::DelayRecords(time) = state.plan {
            state.plan = Plan::Pass;
            drop(state);
            thread::sleep(time);
        }
        true
    }
}

/// Makes an abort of a commit: the last byte says which it is (EndTxn, versions 0 to 2).
fn abort(request: &mut [u8]) {
    let commits = request.last_mut().expect("a request");
    assert_eq!(std::mem::take(commits), 1, "no commit");
}

/// Of an `EndTxn` (versions 0 to 2): after length, key, version, correlation id and the client's id.
fn transactional_id(request: &[u8]) -> String {
    let text = |at: usize| {
        let length = usize::from(u16::from_be_bytes([request[at], request[at + 1]]));
        (at + 2, at + 2 + length)
    };
    let (from, to) = text(text(12).1);
    String::from_utf8_lossy(&request[from..to]).into_owned()
}

fn has(request: &[u8], text: &str) -> bool {
    request.windows(text.len()).any(|it| it == text.as_bytes())
}

/// With its length in front.
fn read_frame(from: &mut TcpStream) -> io::Result<Vec<u8>> {
    let mut frame = vec![0; 4];
    from.read_exact(&mut frame)?;
    let length = u32::from_be_bytes([frame[0], frame[1], frame[2], frame[3]]) as usize;
    assert!(length <= 64 << 20, "a frame of {length} bytes is none of Kafka's");
    frame.resize(4 + length, 0);
    from.read_exact(&mut frame[4..])?;
    Ok(frame)
}
