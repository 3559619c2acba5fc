//! Node specs as people write them: the interface's own, and damaged ones.

use config::node::{Control, Tls};
use config::{Node, Role};
use expect_test::{Expect, expect};

const SMALL: &str = "
node: c1
control: {brokers: [k1:9092]}
";

const INTERFACE: &str = include_str!("../testdata/node.yaml");

#[track_caller]
#[expect(clippy::needless_pass_by_value, reason = "an expectation is written at its call")]
fn check(role: Role, text: &str, expected: Expect) {
    let problems = Node::parse(text, role).err().map_or(String::new(), |found| found.to_string());
    expected.assert_eq(&problems);
}

#[test]
fn the_values_of_the_interface_are_the_defaults() {
    let mut shown = Node::parse(INTERFACE, Role::Worker).expect("parses");
    let tls = Tls { ca: "ca.pem".into(), cert: "w1.pem".into(), key: "w1.key".into() };
    assert_eq!(shown.tls, Some(tls));
    assert_eq!(shown.coordinators, ["c1:7420", "c2:7420", "c3:7420"]);
    let small = Node::parse(SMALL, Role::Coordinator).expect("parses");
    // What the interface marks as an example, and what it requires, put aside.
    shown.node.clone_from(&small.node);
    shown.coordinators.clear();
    shown.labels.clear();
    shown.tls = None;
    shown.auth = None;
    assert_eq!(small, shown);
    assert_eq!(small.control.prefix, Control::default().prefix);
}

#[test]
fn every_problem_is_reported_with_its_line_and_a_remedy() {
    check(
        Role::Worker,
        "node: W1\nlisten: [7420]\nhtp: 127.0.0.1:7421\ncontrol: {broker: k1, prefix: a b}\n\
         tls: {ca: ca.pem}\nauth: {}\n",
        expect![[r#"
            `coordinators`: is required for a worker, e.g. [c1:7420]
            line 1: `node`: is required: a small letter, then up to 39 small letters, digits, _ or -
            line 2: `listen`: expected a text, found a list
            line 3: `htp`: unknown key; did you mean `http`? (known here: node, listen, http, control, coordinators, labels, data_dir, secrets_dir, tls, auth, protocol_max)
            line 4: `control.broker`: unknown key; did you mean `brokers`? (known here: brokers, prefix, security)
            line 4: `control.brokers`: is required, e.g. [k1:9092]
            line 4: `control.prefix`: must be 1 to 100 of the letters that topics may have: a-z, A-Z, 0-9, . _ -
            line 5: `tls.cert`: is required: `ca`, `cert` and `key` go together
            line 5: `tls.key`: is required: `ca`, `cert` and `key` go together
            line 6: `auth.tokens_file`: is required"#]],
    );
}

#[test]
fn what_is_required_is_named() {
    check(
        Role::Worker,
        "labels: {pool: fast}\n",
        expect![[r#"
        `node`: is required: a small letter, then up to 39 small letters, digits, _ or -
        `control.brokers`: is required, e.g. [k1:9092]
        `coordinators`: is required for a worker, e.g. [c1:7420]"#]],
    );
    check(
        Role::Coordinator,
        "labels: {pool: fast}\n",
        expect![[r#"
        `node`: is required: a small letter, then up to 39 small letters, digits, _ or -
        `control.brokers`: is required, e.g. [k1:9092]"#]],
    );
}

#[test]
fn only_loopback_goes_without_tls_and_tokens() {
    let listen = "node: c1\ncontrol: {brokers: [k1:9092]}\nlisten: c1:7420\nhttp: 0.0.0.0:7421\n";
    check(
        Role::Coordinator,
        listen,
        expect![[r#"
        line 3: `listen`: `c1:7420` can be reached from other machines and needs `tls` and `auth`; or listen on 127.0.0.1
        line 4: `http`: `0.0.0.0:7421` can be reached from other machines and needs `tls` and `auth`; or listen on 127.0.0.1"#]],
    );
    check(
        Role::Coordinator,
        &format!("{listen}tls: {{ca: ca.pem, cert: c1.pem, key: c1.key}}\n"),
        expect![[r#"
            line 3: `listen`: `c1:7420` can be reached from other machines and needs `auth`; or listen on 127.0.0.1
            line 4: `http`: `0.0.0.0:7421` can be reached from other machines and needs `auth`; or listen on 127.0.0.1"#]],
    );
    check(
        Role::Coordinator,
        &format!("{listen}auth: {{tokens_file: tokens.yaml}}\n"),
        expect![[r#"
            line 3: `listen`: `c1:7420` can be reached from other machines and needs `tls`; or listen on 127.0.0.1
            line 4: `http`: `0.0.0.0:7421` can be reached from other machines and needs `tls`; or listen on 127.0.0.1"#]],
    );
    check(
        Role::Coordinator,
        &format!(
            "{listen}tls: {{ca: ca.pem, cert: c1.pem, key: c1.key}}\nauth: {{tokens_file: tokens.yaml}}\n"
        ),
        expect![[""]],
    );
}

#[test]
fn coordinators_of_other_machines_need_tls() {
    check(
        Role::Worker,
        &format!("{SMALL}coordinators: [127.0.0.1:7420, c2:7420, c3, 'c4:0']\n"),
        expect![[r#"
            line 4: `coordinators[1]`: `c2:7420` is on another machine, which needs `tls`
            line 4: `coordinators[2]`: `c3` is no host:port, e.g. c1:7420 or [::1]:7420
            line 4: `coordinators[3]`: `c4:0` is no host:port, e.g. c1:7420 or [::1]:7420"#]],
    );
}

#[test]
fn addresses_are_two_and_have_ports() {
    check(
        Role::Coordinator,
        &format!("{SMALL}listen: 127.0.0.1:7421\nhttp: 127.0.0.1:7421\n"),
        expect!["line 5: `http`: must be another address than `listen`"],
    );
    check(
        Role::Coordinator,
        &format!("{SMALL}listen: 127.0.0.1\nhttp: '::1:7421'\n"),
        expect![[r#"
            line 4: `listen`: `127.0.0.1` is no host:port, e.g. 127.0.0.1:7420 or [::1]:7420
            line 5: `http`: `::1:7421` is no host:port, e.g. 127.0.0.1:7420 or [::1]:7420"#]],
    );
    check(
        Role::Coordinator,
        &format!("{SMALL}listen: 127.0.0.1:0\nhttp: 127.0.0.1:0\n"),
        expect![[""]],
    );
}

#[test]
fn a_secret_in_the_spec_is_named_and_never_shown() {
    let security = "{protocol: SASL_SSL, mechanism: SCRAM-SHA-512, user: u, password: hunter2}";
    let text = format!("node: c1\ncontrol: {{brokers: [k1:9092], security: {security}}}\n");
    let node = Node::parse(&text, Role::Coordinator).expect("parses");
    assert_eq!(node.literal_secrets(), ["control.security.password"]);
    assert!(!format!("{node:?}").contains("hunter2"));
    assert!(!serde_json::to_string(&node).expect("JSON").contains("hunter2"));
}

#[test]
fn the_schema_knows_every_key_of_the_interface() {
    let schema = config::node_schema();
    let spec = Node::parse(INTERFACE, Role::Worker).expect("parses");
    let spec = serde_json::to_value(spec).expect("JSON");
    let known = schema["properties"].as_object().expect("properties");
    for key in spec.as_object().expect("keys").keys() {
        assert!(known.contains_key(key), "{key}");
    }
    assert_eq!(schema["additionalProperties"], false, "unknown keys are errors");
}

proptest::proptest! {
    #[test]
    fn no_text_panics(text in ".{0,200}") {
        let _ = Node::parse(&text, Role::Worker);
    }
}
