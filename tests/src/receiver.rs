//! A receiver of alerts: it keeps what is posted to it.

use crate::deadline::await_true;
use crate::scene::CATCH_UP_MAX;
use serde_json::Value;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread::spawn;

/// Takes what is posted.
pub struct Receiver {
    /// With a secret in it.
    pub url: String,
    heard: Arc<Mutex<Vec<String>>>,
}

impl Receiver {
    /// Listens on loopback.
    ///
    /// # Panics
    /// When there is no port.
    #[must_use]
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let url =
            format!("http://{}/hook?token=hunter2", listener.local_addr().expect("an address"));
        let heard = Arc::new(Mutex::new(Vec::new()));
        let into = Arc::clone(&heard);
        spawn(move || {
            for stream in listener.incoming().flatten() {
                let said = take(stream);
                into.lock().expect("no panic").extend(said);
            }
        });
        Self { url, heard }
    }

    /// A line of a task spec that has it told; `more`: other settings of alerts, each after a comma.
    #[must_use]
    pub fn line(&self, more: &str) -> String {
        format!("alerts: {{webhook: \"{}\"{more}}}", self.url)
    }

    /// What was posted, in its order.
    ///
    /// # Panics
    /// When its thread has.
    #[must_use]
    pub fn texts(&self) -> Vec<String> {
        self.heard.lock().expect("no panic").clone()
    }

    /// Events and states, in their order.
    ///
    /// # Panics
    /// When something else was posted.
    #[must_use]
    pub fn events(&self) -> Vec<(String, String)> {
        let word = |value: &Value| value.as_str().expect("a word").to_owned();
        let event = |text: &String| {
            let value: Value = serde_json::from_str(text).expect("JSON");
            (word(&value["event"]), word(&value["state"]))
        };
        self.texts().iter().map(event).collect()
    }

    /// Waits for as many; holds no secret.
    ///
    /// # Panics
    /// When others come, or none in time.
    #[track_caller]
    pub fn await_events(&self, expected: &[(&str, &str)]) {
        let is_there = || self.events().len() >= expected.len();
        await_true("the alerts", CATCH_UP_MAX, is_there);
        let events = self.events();
        let events: Vec<_> = events.iter().map(|(a, b)| (a.as_str(), b.as_str())).collect();
        assert_eq!(events, expected);
        for text in self.texts() {
            assert!(!text.contains("hunter2"), "a secret: {text}");
        }
    }
}

fn take(mut stream: TcpStream) -> Option<String> {
    let (mut request, mut buffer) = (Vec::new(), [0; 4096]);
    loop {
        let text = String::from_utf8_lossy(&request);
        if let Some((_, body)) = text.split_once("\r\n\r\n")
            && body.ends_with('}')
        {
            let body = body.to_owned();
            let answer = b"HTTP/1.1 204 Taken\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
            stream.write_all(answer).ok()?;
            return Some(body);
        }
        match stream.read(&mut buffer).ok()? {
            0 => return None,
            count => request.extend_from_slice(&buffer[..count]),
        }
    }
}
