//! What other users of the machine see of a process: its arguments. No secret can be one.

use std::net::TcpListener;
use std::process::{Command, Stdio};

fn help(arguments: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_distributary"))
        .args(arguments)
        .arg("--help")
        .output()
        .expect("the binary can be run");
    String::from_utf8(output.stdout).expect("text")
}

/// `--option` and `<VALUE>` of a help text.
fn names(help: &str) -> Vec<String> {
    help.split(|letter: char| letter.is_whitespace() || "[],=`".contains(letter))
        .filter(|word| word.starts_with("--") || word.starts_with('<'))
        .map(str::to_lowercase)
        .collect()
}

#[test]
fn no_option_takes_a_secret() {
    let commands = ["run", "check", "objects", "tail", "schema", "completions"];
    let texts = std::iter::once(help(&[])).chain(commands.iter().map(|command| help(&[command])));
    let names: Vec<String> = texts.flat_map(|text| names(&text)).collect();
    assert!(names.contains(&"--ignore".to_owned()), "{names:?}");
    assert!(names.contains(&"<task.yaml>".to_owned()), "{names:?}");
    // A file that holds one may be named.
    for name in names.iter().filter(|name| !name.ends_with("-file")) {
        for word in ["password", "passwd", "secret", "token", "credential"] {
            assert!(!name.contains(word), "`{name}` invites a secret");
        }
    }
}

/// Everything that is started by us would show its own arguments.
#[test]
fn no_secret_is_handed_to_another_process() {
    let folder = tempfile::tempdir().expect("a folder");
    let spec = folder.path().join("shop.yaml");
    // A database that takes a connection and never answers.
    let database = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = database.local_addr().expect("an address").port();
    let text = format!(
        "version: 1
task: shop
source: {{hosts: ['127.0.0.1:{port}'], database: shop, user: distributary, password: hunter2}}
sink: {{brokers: [127.0.0.1:1], security: {{protocol: SASL_PLAINTEXT, mechanism: PLAIN, user: u,
  password: hunter3}}}}
objects: [{{table: public.*}}]
"
    );
    std::fs::write(&spec, text).expect("written");
    let mut child = Command::new(env!("CARGO_BIN_EXE_distributary"))
        .arg("check")
        .arg(&spec)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("the binary can be run");
    let connection = database.accept().expect("it connects");
    let id = child.id();
    let children = std::fs::read_to_string(format!("/proc/{id}/task/{id}/children"));
    let arguments = std::fs::read(format!("/proc/{id}/cmdline")).expect("it runs");
    child.kill().expect("it ends");
    child.wait().expect("it ends");
    drop(connection);
    let arguments = String::from_utf8_lossy(&arguments).into_owned();
    assert!(arguments.contains("shop.yaml"), "{arguments}");
    assert!(!arguments.contains("hunter"), "{arguments}");
    assert_eq!(children.unwrap_or_default().trim(), "", "a process was started");
}
