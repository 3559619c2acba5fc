//! A real registry behind TLS: its own certificate authority, a client certificate, a password, a token; what is
//! refused and how it is said. The registry itself knows no passwords without another server, so a gateway stands
//! before it, as it would in production.

use apache_avro::{Schema, from_avro_datum};
use config::{Registry as Settings, Secret, Tls};
use kafka::registry::{Registry, RegistryError};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig, ServerConnection, StreamOwned};
use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;
use tests::registry::PATH;
use tests::scene::{CATCH_UP_MAX, Scene};
use tests::servers::{Server, ask};

const PASSWORD: &str = "r3gistry-pa55";
const TOKEN: &str = "t0ken-of-ours";
const PRECHECK: i32 = 3;
/// How long a client may leave a connection without a word.
const SILENCE_MAX: Duration = Duration::from_secs(20);

/// Path of a certificate or key.
fn tls(file: &str) -> String {
    static FOLDER: OnceLock<String> = OnceLock::new();
    format!("{}/{file}", FOLDER.get_or_init(|| ask("tls", "registry").trim().into()))
}

/// Ends TLS before the registry and looks who comes.
struct Gateway {
    address: SocketAddr,
    /// What was asked by whoever was let in.
    passed: Arc<Mutex<Vec<String>>>,
    registry: Server,
}

impl Gateway {
    /// Lets in who has a certificate of our authority and says one of these.
    fn start() -> Self {
        let registry = Server::start("registry");
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        let (config, passed) = (Arc::new(config()), Arc::default());
        let (behind, log) = (registry.clone(), Arc::clone(&passed));
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (config, behind, log) = (Arc::clone(&config), behind.clone(), Arc::clone(&log));
                // Who breaks off has seen what was wrong.
                std::thread::spawn(move || serve(stream?, config, &behind, &log));
            }
        });
        Self { address, passed, registry }
    }

    fn url(&self) -> String {
        format!("https://localhost:{}{PATH}", self.address.port())
    }

    /// What a task needs to be let in.
    fn settings(&self) -> Settings {
        let tls = Tls {
            ca: Some(tls("ca.pem")),
            cert: Some(tls("client.pem")),
            key: Some(tls("client.key")),
            ..Tls::default()
        };
        let (user, password) = (Some("u".into()), secret(PASSWORD));
        Settings { url: self.url(), user, password, tls, ..Settings::default() }
    }
}

fn secret(text: &str) -> Option<Secret> {
    serde_json::from_value(text.into()).ok()
}

fn config() -> ServerConfig {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let certificates = |file: &str| -> Vec<CertificateDer<'static>> {
        let found = CertificateDer::pem_file_iter(tls(file)).expect("a file");
        found.map(|certificate| certificate.expect("a certificate")).collect()
    };
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(certificates("ca.pem"));
    let verifier =
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider));
    let key = PrivateKeyDer::from_pem_file(tls("server.key")).expect("a key");
    ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_client_cert_verifier(verifier.build().expect("a verifier"))
        .with_single_cert(certificates("server.pem"), key)
        .expect("a certificate and its key")
}

/// One request for each connection.
fn serve(
    stream: TcpStream,
    config: Arc<ServerConfig>,
    registry: &Server,
    passed: &Mutex<Vec<String>>,
) -> std::io::Result<()> {
    stream.set_read_timeout(Some(SILENCE_MAX))?;
    let connection = ServerConnection::new(config).map_err(std::io::Error::other)?;
    let mut client = BufReader::new(StreamOwned::new(connection, stream));
    let (mut head, mut length, mut is_known) = (Vec::new(), 0, false);
    loop {
        let mut line = String::new();
        if client.read_line(&mut line)? == 0 {
            return Ok(());
        }
        let lower = line.to_ascii_lowercase();
        match lower.split_once(": ") {
            _ if line.trim().is_empty() => break,
            Some(("authorization", _)) => {
                // `u:r3gistry-pa55` in base64.
                let basic = format!("Basic {}", "dTpyM2dpc3RyeS1wYTU1");
                let said = line.trim_end().split_once(": ").expect("a header").1;
                is_known = said == basic || said == format!("Bearer {TOKEN}");
            }
            Some(("connection", _)) => {}
            Some(("content-length", value)) => {
                length = value.trim().parse().map_err(std::io::Error::other)?;
                head.push(line);
            }
            Some(_) | None => head.push(line),
        }
    }
    let mut body = vec![0; length];
    client.read_exact(&mut body)?;
    let mut answer = Vec::new();
    if is_known {
        passed.lock().expect("the log").push(head[0].trim().into());
        let mut behind = TcpStream::connect(&registry.address)?;
        write!(behind, "{}Connection: close\r\n\r\n", head.concat())?;
        behind.write_all(&body)?;
        behind.read_to_end(&mut answer)?;
    } else {
        let text = r#"{"error_code":401,"message":"who are you?"}"#;
        let length = text.len();
        write!(
            answer,
            "HTTP/1.1 401 Unauthorized\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{text}"
        )?;
    }
    let client = client.get_mut();
    client.write_all(&answer)?;
    client.conn.send_close_notify();
    client.flush()
}

#[test]
fn who_is_not_let_in_is_told_why() {
    let gateway = Gateway::start();
    let asked =
        |settings: &Settings| Registry::new(settings, Path::new(".")).expect("a client").level();
    let basic = gateway.settings();
    assert!(asked(&basic).is_ok(), "{:?}", asked(&basic));
    let bearer = Settings { user: None, password: None, token: secret(TOKEN), ..basic.clone() };
    assert!(asked(&bearer).is_ok(), "{:?}", asked(&bearer));

    let wrong = [
        Settings { password: secret("wr0ng"), ..basic.clone() },
        Settings { token: secret("wr0ng"), ..bearer.clone() },
        Settings { user: None, password: None, ..basic.clone() },
    ];
    for settings in wrong {
        let error = asked(&settings).expect_err("not let in");
        assert!(matches!(error, RegistryError::NotAuthorized { .. }), "{error}");
        assert!(error.to_string().contains("who are you?"), "{error}");
        assert!(!error.to_string().contains("wr0ng"), "{error}");
    }
    let with = |tls: Tls| Settings { tls, ..basic.clone() };
    let tls_of = |ca: Option<&str>, client: bool| Tls {
        ca: ca.map(tls),
        cert: client.then(|| tls("client.pem")),
        key: client.then(|| tls("client.key")),
        ..Tls::default()
    };
    let untrusted = [
        with(tls_of(Some("stranger-ca.pem"), true)),
        with(tls_of(None, true)),
        with(tls_of(Some("ca.pem"), false)),
        // The certificate does not name it.
        Settings { url: basic.url.replace("localhost", "127.0.0.2"), ..basic.clone() },
    ];
    for settings in &untrusted[..3] {
        let error = asked(settings).expect_err("not let in");
        assert!(matches!(error, RegistryError::Tls { .. }), "{error}");
    }
    assert!(asked(&untrusted[3]).is_err());
    let plain = Settings { url: basic.url.replace("https", "http"), ..basic };
    assert!(asked(&plain).is_err());
}

#[test]
fn a_task_writes_through_tls_with_a_certificate_and_a_password_or_a_token() {
    let gateway = Gateway::start();
    let scene = Scene::new("registry_tls", "postgres-15");
    scene.sql().run("CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t VALUES (1)");
    fs::write(scene.folder().join("password"), PASSWORD).expect("the folder can be written");
    fs::write(scene.folder().join("token"), TOKEN).expect("the folder can be written");
    fs::write(scene.folder().join("wrong"), "wr0ng-pa55").expect("the folder can be written");
    let spec = |who: &str| {
        let (ca, cert, key) = (tls("ca.pem"), tls("client.pem"), tls("client.key"));
        let registry = format!(
            "registry: {{url: \"{}\", {who}, tls: {{ca: \"{ca}\", cert: \"{cert}\", key: \"{key}\"}}}}",
            gateway.url()
        );
        scene.spec().sink("format: debezium-avro").sink("partitions: 1").sink(&registry)
    };
    let refused = scene.run(&spec("user: u, password: \"${file:wrong}\""), &["--until-caught-up"]);
    let refused = refused.wait(CATCH_UP_MAX);
    refused.expect(PRECHECK);
    let said = format!("{}{}", refused.stdout, refused.stderr);
    assert!(said.contains("who are you?") && said.contains("sink.registry"), "{said}");
    assert!(!said.contains("wr0ng-pa55"), "{said}");

    scene.catch_up(&spec("user: u, password: \"${file:password}\""));
    scene.sql().run("ALTER TABLE t ADD COLUMN a text; INSERT INTO t VALUES (2, 'b')");
    scene.catch_up(&spec("token: \"${file:token}\""));

    let registered = gateway.passed.lock().expect("the log").clone();
    let is_registration = |line: &&String| line.starts_with("POST") && line.contains("/versions ");
    assert!(3 <= registered.iter().filter(is_registration).count(), "{registered:#?}");
    let plain = Settings {
        url: format!("http://{}{PATH}", gateway.registry.address),
        ..Settings::default()
    };
    let plain = Registry::new(&plain, Path::new(".")).expect("a client");
    let ids: Vec<_> = scene
        .topics()
        .records
        .iter()
        // The task's role makes no event trigger: the statement is told where it is inferred.
        .filter(|record| !record.topic.ends_with(".ddl"))
        .map(|record| {
            let value = record.value.as_deref().expect("no tombstone");
            let (head, mut rest) = value.split_first_chunk::<5>().expect("a frame");
            let [0, id @ ..] = *head else { panic!("no frame: {head:?}") };
            let schema = plain.schema(u32::from_be_bytes(id)).expect("a schema of that id");
            let schema = Schema::parse_str(&schema).expect("an Avro schema");
            let read = from_avro_datum(&schema, &mut rest, None).expect("a datum of the schema");
            format!("{read:?}").contains("Int(2)")
        })
        .collect();
    assert_eq!(ids, [false, true]);
}
