//! A broker of our own: clients reach it through the proxy, or with a password.

use crate::proxy::Proxy;
use std::process::{Command, Output};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError, Weak};
use tests::seed::say;
use tests::servers::{Server, repository};

const NAME: &str = "kafka:late-commit";
const PORT: u16 = 29_780;
const CONTROLLER_PORT: u16 = PORT + 1;
const PASSWORD_PORT: u16 = 29_785;
const PROXY_PORT: u16 = 29_790;
pub(crate) const USER: &str = "shop";
pub(crate) const PASSWORD: &str = "s3cret-of-the-shop";

static PROXY: LazyLock<Proxy> =
    LazyLock::new(|| Proxy::start(PROXY_PORT, &format!("127.0.0.1:{PORT}")));

/// Runs as long as a test needs it or waits for its turn.
struct Broker;

impl Broker {
    fn start() -> Self {
        // Before the broker, which talks to itself through it.
        LazyLock::force(&PROXY);
        let port = PORT.to_string();
        let jaas = "org.apache.kafka.common.security.plain.PlainLoginModule";
        let settings = [
            format!(
                "listeners=PLAINTEXT://127.0.0.1:{PORT},CONTROLLER://127.0.0.1:{CONTROLLER_PORT},\
                 SASL_PLAINTEXT://127.0.0.1:{PASSWORD_PORT}"
            ),
            format!(
                "advertised.listeners=PLAINTEXT://127.0.0.1:{PROXY_PORT},\
                 SASL_PLAINTEXT://127.0.0.1:{PASSWORD_PORT}"
            ),
            "sasl.enabled.mechanisms=PLAIN".to_owned(),
            format!(
                "listener.name.sasl_plaintext.plain.sasl.jaas.config=\
                 {jaas} required user_{USER}=\"{PASSWORD}\";"
            ),
        ];
        let mut arguments = vec!["start", NAME, "--port", &port];
        settings.iter().for_each(|setting| arguments.extend(["--set", setting]));
        let output = servers(&arguments);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Self
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        let output = servers(&["stop", NAME]);
        if !output.status.success() {
            say(&format!("{NAME} does not stop: {}", String::from_utf8_lossy(&output.stderr)));
        }
    }
}

fn servers(arguments: &[&str]) -> Output {
    let script = repository().join("cluster/local/servers");
    Command::new(script).args(arguments).output().expect("the script runs")
}

/// One test at a time: the proxy's plans are for the next commit, whoever sends it.
pub(crate) struct Turn {
    _turn: MutexGuard<'static, ()>,
    _broker: Arc<Broker>,
}

impl Turn {
    pub(crate) fn take() -> Self {
        static BROKER: Mutex<Weak<Broker>> = Mutex::new(Weak::new());
        static TURN: Mutex<()> = Mutex::new(());
        let broker = {
            let mut running = BROKER.lock().unwrap_or_else(PoisonError::into_inner);
            running.upgrade().unwrap_or_else(|| {
                let broker = Arc::new(Broker::start());
                *running = Arc::downgrade(&broker);
                broker
            })
        };
        Self { _turn: TURN.lock().unwrap_or_else(PoisonError::into_inner), _broker: broker }
    }

    #[expect(clippy::unused_self, reason = "only who has the turn may plan")]
    pub(crate) fn proxy(&self) -> Proxy {
        PROXY.clone()
    }

    pub(crate) fn kafka(&self) -> Server {
        self.at(PROXY_PORT)
    }

    /// With a password.
    pub(crate) fn kafka_with_password(&self) -> Server {
        self.at(PASSWORD_PORT)
    }

    #[expect(clippy::unused_self, reason = "it runs no longer than the turn")]
    fn at(&self, port: u16) -> Server {
        Server { name: NAME.into(), address: format!("127.0.0.1:{port}") }
    }
}
