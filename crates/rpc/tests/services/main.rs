//! Servers and clients on loopback, with certificates of their own: who gets in, who does not, and what
//! they are told.

mod authority;
mod fakes;

use authority::Authority;
use bytes::Bytes;
use fakes::Running;
use rpc::identity::Role;
use rpc::v1::lane_down::Message as Down;
use rpc::v1::lane_up::Message as Up;
use rpc::v1::{Frame, ListTasksRequest, OpenLane, Register, StartTaskRequest, WorkerMessage};
use rpc::{Code, Error, Expected, Protocols, Server, client};
use secrecy::SecretString;

fn w1() -> Expected {
    Expected::Worker("w1".into())
}

fn open(owner: &str) -> OpenLane {
    OpenLane { protocol: rpc::PROTOCOL_MAX, owner: owner.into(), ..OpenLane::default() }
}

/// The first answer of a lane that is opened over this channel.
async fn lane(
    channel: tonic::transport::Channel,
    messages: Vec<Down>,
) -> Result<Option<Up>, Error> {
    let down = |message| rpc::v1::LaneDown { message: Some(message) };
    let messages: Vec<_> = messages.into_iter().map(down).collect();
    let mut up = client::link(channel).lane(tokio_stream::iter(messages)).await?.into_inner();
    Ok(up.message().await?.and_then(|up| up.message))
}

#[track_caller]
fn refused<T: std::fmt::Debug>(result: Result<T, Error>, code: Code, parts: &[&str]) {
    let error = result.expect_err("refused");
    let text = error.to_string();
    assert_eq!(error.code, code, "{text}");
    for part in parts {
        assert!(text.contains(part), "`{part}` in `{text}`");
    }
}

#[tokio::test]
async fn a_worker_opens_a_lane_of_another_under_its_own_name() {
    let ca = Authority::new("ca");
    let server = Running::start(&ca, Role::Worker).await;
    let tls = ca.node("w2", Role::Worker);
    let channel = client::connect(&server.address, Some(&tls), &w1()).await.expect("connects");
    let up = lane(channel, vec![Down::Open(open("w2"))]).await.expect("admitted");
    assert!(matches!(up, Some(Up::Opened(_))), "{up:?}");
    assert_eq!(server.said().len(), 1);
    assert!(server.said()[0].starts_with("worker `w2` at 127.0.0.1:"), "{:?}", server.said());
}

#[tokio::test]
async fn a_lie_about_its_name_is_refused() {
    let ca = Authority::new("ca");
    let server = Running::start(&ca, Role::Worker).await;
    let tls = ca.node("w2", Role::Worker);
    let channel = client::connect(&server.address, Some(&tls), &w1()).await.expect("connects");
    let lied = lane(channel, vec![Down::Open(open("w3"))]).await;
    refused(lied, Code::Name, &["worker `w2`", "calls itself `w3`", "certificate of its own name"]);
}

#[tokio::test]
async fn a_certificate_of_another_authority_is_refused_by_both_sides() {
    let (ca, other) = (Authority::new("ca"), Authority::new("other"));
    let server = Running::start(&ca, Role::Worker).await;
    // The client does not trust the server.
    let stranger = other.node("w2", Role::Worker);
    let met = client::connect(&server.address, Some(&stranger), &w1()).await;
    refused(met, Code::Unauthenticated, &["cannot be trusted", "signed by our CA"]);
    // The server does not trust the client, which trusts the server.
    let stranger = other.node_that_trusts(&ca, "w2", Role::Worker);
    let met = match client::connect(&server.address, Some(&stranger), &w1()).await {
        Ok(channel) => lane(channel, vec![Down::Open(open("w2"))]).await.map(|_| ()),
        Err(error) => Err(error),
    };
    refused(met, Code::Unauthenticated, &["refused the certificate (", "signed by the CA"]);
    assert!(server.said().is_empty());
}

#[tokio::test]
async fn a_node_that_is_not_the_expected_one_is_not_spoken_to() {
    let ca = Authority::new("ca");
    let server = Running::start(&ca, Role::Worker).await;
    let tls = ca.node("w2", Role::Worker);
    let w9 = Expected::Worker("w9".into());
    let met = client::connect(&server.address, Some(&tls), &w9).await;
    refused(met, Code::Name, &["expected worker `w9`", "certificate is of worker `w1`"]);
    let met = client::connect(&server.address, Some(&tls), &Expected::Coordinator).await;
    refused(met, Code::Name, &["expected a coordinator"]);
}

#[tokio::test]
async fn a_worker_s_certificate_does_not_open_the_admin_service() {
    let ca = Authority::new("ca");
    let server = Running::start(&ca, Role::Coordinator).await;
    let token = SecretString::from(fakes::ADMIN);
    for role in [Role::Worker, Role::Coordinator] {
        let tls = ca.node("w2", role);
        let met = client::connect(&server.address, Some(&tls), &Expected::Coordinator).await;
        let mut admin = client::admin(met.expect("connects"), Some(&token)).expect("a client");
        let listed = admin.list_tasks(ListTasksRequest {}).await.map_err(Error::from);
        refused(listed, Code::Forbidden, &["`w2` may not use the admin service"]);
    }
    assert!(server.said().is_empty());
}

#[tokio::test]
async fn a_certificate_with_another_role_does_not_open_links() {
    let ca = Authority::new("ca");
    let server = Running::start(&ca, Role::Worker).await;
    let tls = ca.node("c1", Role::Coordinator);
    let channel = client::connect(&server.address, Some(&tls), &w1()).await.expect("connects");
    let opened = lane(channel, vec![Down::Open(open("c1"))]).await;
    refused(opened, Code::Forbidden, &["coordinator `c1`", "only workers"]);
    let channel = client::connect(&server.address, Some(&ca.tool()), &w1()).await;
    let opened = lane(channel.expect("connects"), vec![Down::Open(open("c1"))]).await;
    refused(opened, Code::Unauthenticated, &["shows no certificate", "set `tls`"]);
}

#[tokio::test]
async fn tokens_open_what_their_role_is_for() {
    let ca = Authority::new("ca");
    let server = Running::start(&ca, Role::Coordinator).await;
    let url = format!("https://{}", server.address);
    let tls = ca.tool();
    let channel =
        client::connect(&url, Some(&tls), &Expected::Coordinator).await.expect("connects");
    let list = async |token: Option<&str>| {
        let token = token.map(SecretString::from);
        let mut admin = client::admin(channel.clone(), token.as_ref()).expect("a client");
        admin.list_tasks(ListTasksRequest {}).await.map_err(Error::from)
    };
    let start = async |token: &str| {
        let token = SecretString::from(token);
        let mut admin = client::admin(channel.clone(), Some(&token)).expect("a client");
        let request = StartTaskRequest { task: "shop".into() };
        admin.start_task(request).await.map_err(Error::from)
    };
    refused(list(None).await, Code::Unauthenticated, &["needs a token", "--token-file"]);
    refused(list(Some("wrong")).await, Code::Unauthenticated, &["nobody has this token"]);
    list(Some(fakes::VIEWER)).await.expect("a viewer reads");
    let refusal = ["viewer `ann`", "needs the role operator"];
    refused(start(fakes::VIEWER).await, Code::Forbidden, &refusal);
    start(fakes::ADMIN).await.expect("an admin starts");
    let said = server.said();
    assert_eq!(said.len(), 2, "{said:?}");
    assert!(said[1].starts_with("admin `bob` at 127.0.0.1:"), "{said:?}");
}

#[tokio::test]
async fn errors_arrive_with_their_code_and_remedy() {
    let ca = Authority::new("ca");
    let server = Running::start(&ca, Role::Coordinator).await;
    let tls = ca.tool();
    let met = client::connect(&server.address, Some(&tls), &Expected::Coordinator).await;
    let token = SecretString::from(fakes::ADMIN);
    let mut admin = client::admin(met.expect("connects"), Some(&token)).expect("a client");
    let request = StartTaskRequest { task: "other".into() };
    let error = Error::from(admin.start_task(request).await.expect_err("refused"));
    assert_eq!(error, Error::not_leader(Some("c2:7420".into())));
    // The longest fits the headers.
    let request = StartTaskRequest { task: "long".into() };
    let error = Error::from(admin.start_task(request).await.expect_err("refused"));
    assert_eq!(error.code, Code::Spec);
    assert!(!error.spec.is_empty() && error.remedy.ends_with("are not shown"), "{error}");
}

#[tokio::test]
async fn protocols_that_do_not_meet_are_refused_with_both_ranges() {
    let ca = Authority::new("ca");
    let server = Running::start(&ca, Role::Coordinator).await;
    let tls = ca.node("w2", Role::Worker);
    let channel = client::connect(&server.address, Some(&tls), &Expected::Coordinator).await;
    let channel = channel.expect("connects");
    let join = async |protocols: Protocols| {
        let register = Register {
            protocol_min: protocols.min,
            protocol_max: protocols.max,
            node: "w2".into(),
            ..Register::default()
        };
        let message = Some(rpc::v1::worker_message::Message::Register(register));
        let messages = tokio_stream::iter(vec![WorkerMessage { message }]);
        let mut down = client::cluster(channel.clone()).join(messages).await?.into_inner();
        down.message().await.map_err(Error::from)
    };
    join(Protocols::OURS).await.expect("our own protocol").expect("an answer");
    let newer = Protocols { min: rpc::PROTOCOL_MAX + 1, max: rpc::PROTOCOL_MAX + 2 };
    let other = format!("the other {} to {}", newer.min, newer.max);
    let refusal = ["this node speaks protocols", &other, "renew this node"];
    refused(join(newer).await, Code::Protocol, &refusal);
    let older = Protocols { min: 0, max: rpc::PROTOCOL_MIN - 1 };
    refused(join(older).await, Code::Protocol, &["the other 0 to 0", "renew the other node"]);
}

#[tokio::test]
async fn a_message_above_the_limit_is_refused() {
    let ca = Authority::new("ca");
    let server = Running::start(&ca, Role::Worker).await;
    let tls = ca.node("w2", Role::Worker);
    let channel = client::connect(&server.address, Some(&tls), &w1()).await.expect("connects");
    let frame = |bytes: usize| Down::Frame(Frame { payload: Bytes::from(vec![7; bytes]) });
    let fits = vec![frame(rpc::limits::FRAME_BYTES_MAX), Down::Open(open("w2"))];
    let up = lane(channel.clone(), fits).await.expect("a frame of the largest size");
    assert!(matches!(up, Some(Up::Opened(_))), "{up:?}");
    let above = vec![frame(rpc::limits::MESSAGE_BYTES_MAX), Down::Open(open("w2"))];
    refused(lane(channel, above).await, Code::TooLarge, &["4194304"]);
}

/// Address space of this process, in bytes.
fn address_space() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux");
    let line = status.lines().find(|line| line.starts_with("VmPeak")).expect("VmPeak");
    let kib: u64 = line.split_whitespace().nth(1).expect("a number").parse().expect("a number");
    kib << 10
}

#[tokio::test]
async fn a_frame_of_hostile_length_costs_no_memory() {
    let ca = Authority::new("ca");
    let server = Running::start(&ca, Role::Worker).await;
    let tls = ca.node("w2", Role::Worker);
    let channel = client::connect(&server.address, Some(&tls), &w1()).await.expect("connects");
    let before = address_space();
    // Not compressed, and four GiB long but for a byte; only the head of it is sent.
    let head = Bytes::from_static(&[0, 0xff, 0xff, 0xff, 0xff, 1, 2, 3]);
    let body = tonic::body::Body::new(fakes::Unended(Some(head)));
    let request = http::Request::post("http://w1/distributary.v1.Link/Lane")
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(body)
        .expect("a request");
    let response = tower::ServiceExt::oneshot(channel, request).await.expect("an answer");
    let status = fakes::status(response).await;
    refused(Err::<(), _>(status.into()), Code::TooLarge, &["4294967295"]);
    assert!(address_space() - before < 1 << 30, "{before} grew to {}", address_space());
}

#[tokio::test]
async fn off_loopback_nothing_goes_without_tls_and_tokens() {
    let ca = Authority::new("ca");
    let bound = Server::bind("0.0.0.0:0", None, None).await.map(|_| ());
    refused(bound, Code::Argument, &["other machines, and `tls` is not set"]);
    let tls = ca.node("w1", Role::Worker);
    let bound = Server::bind("[::]:0", Some(&tls), None).await.map(|_| ());
    refused(bound, Code::Argument, &["`auth` is not set", "listen on 127.0.0.1"]);
    Server::bind("0.0.0.0:0", Some(&tls), Some(fakes::tokens())).await.expect("with both");
    for address in ["10.0.0.1:7420", "w1:7420", "http://w1:7420"] {
        refused(client::connect(address, None, &w1()).await, Code::Argument, &["without TLS"]);
    }
    let met = client::connect("https://127.0.0.1:7420", None, &w1()).await;
    refused(met, Code::Argument, &["needs the cluster's CA", "--ca"]);
}

#[tokio::test]
async fn on_loopback_a_server_goes_without_tls_and_trusts_this_machine() {
    let server = Running::plain(None).await;
    let channel = client::connect(&server.address, None, &w1()).await.expect("connects");
    let up = lane(channel.clone(), vec![Down::Open(open("anybody"))]).await.expect("admitted");
    assert!(matches!(up, Some(Up::Opened(_))), "{up:?}");
    let mut admin = client::admin(channel, None).expect("a client");
    admin.list_tasks(ListTasksRequest {}).await.expect("a local user reads");
    assert!(server.said()[1].starts_with("a local user at 127.0.0.1:"), "{:?}", server.said());
}

#[tokio::test]
async fn tokens_count_on_loopback_too() {
    let server = Running::plain(Some(fakes::tokens())).await;
    let channel = client::connect(&server.address, None, &w1()).await.expect("connects");
    let mut admin = client::admin(channel, None).expect("a client");
    let listed = admin.list_tasks(ListTasksRequest {}).await.map_err(Error::from);
    refused(listed, Code::Unauthenticated, &["needs a token"]);
}

#[tokio::test]
async fn health_is_told_to_everybody_and_reflection_to_whoever_is_known() {
    let ca = Authority::new("ca");
    let server = Running::start(&ca, Role::Worker).await;
    let channel = client::connect(&server.address, Some(&ca.tool()), &w1()).await;
    let channel = channel.expect("connects");
    let mut health = tonic_health::pb::health_client::HealthClient::new(channel.clone());
    let service = "distributary.v1.Link".to_owned();
    let answer = health.check(tonic_health::pb::HealthCheckRequest { service }).await;
    let serving = tonic_health::pb::health_check_response::ServingStatus::Serving;
    assert_eq!(answer.expect("an answer").into_inner().status(), serving);

    use tonic_reflection::pb::v1 as reflection;
    let list = async |channel: tonic::transport::Channel| {
        let mut client = reflection::server_reflection_client::ServerReflectionClient::new(channel);
        let wanted =
            reflection::server_reflection_request::MessageRequest::ListServices(String::new());
        let request = reflection::ServerReflectionRequest {
            message_request: Some(wanted),
            ..reflection::ServerReflectionRequest::default()
        };
        let mut answers =
            client.server_reflection_info(tokio_stream::iter(vec![request])).await?.into_inner();
        answers.message().await.map_err(Error::from)
    };
    refused(list(channel).await, Code::Unauthenticated, &["needs a token"]);
    let known = ca.node("w2", Role::Worker);
    let channel = client::connect(&server.address, Some(&known), &w1()).await.expect("connects");
    let services = format!("{:?}", list(channel).await.expect("known"));
    assert!(services.contains("distributary.v1.Link"), "{services}");
}

#[tokio::test]
async fn keys_that_everybody_can_read_and_certificates_of_others_are_refused() {
    let ca = Authority::new("ca");
    refused(ca.with_open_key("w1"), Code::Argument, &["read by everybody", "chmod 600"]);
    let wrong = ca.as_node("w1", Role::Worker, "w2");
    refused(wrong, Code::Name, &["is of worker `w1`, this node is worker `w2`"]);
    let nobody = ca.without_uri();
    refused(nobody, Code::Unauthenticated, &["does not say which node", "distributary://node/"]);
}

#[tokio::test]
async fn a_server_that_stops_ends_streams_that_do_not_end() {
    let server = Running::plain(None).await;
    let channel = client::connect(&server.address, None, &w1()).await.expect("connects");
    lane(channel.clone(), vec![Down::Open(open("w2"))]).await.expect("admitted");
    server.stop().await;
    let gone = lane(channel, vec![Down::Open(open("w2"))]).await;
    assert!(gone.expect_err("gone").passes());
}

#[tokio::test]
async fn a_silent_peer_is_noticed() {
    let ca = Authority::new("ca");
    let server = Running::start(&ca, Role::Worker).await;
    let (address, silence) = fakes::passage(&server.address).await;
    let tls = ca.node("w2", Role::Worker);
    let channel = client::connect(&address, Some(&tls), &w1()).await.expect("connects");
    let message = Some(Down::Open(open("w2")));
    let down = futures_util::StreamExt::chain(
        tokio_stream::iter(vec![rpc::v1::LaneDown { message }]),
        tokio_stream::pending(),
    );
    let mut up = client::link(channel).lane(down).await.expect("admitted").into_inner();
    up.message().await.expect("an answer").expect("opened");
    silence.send(()).expect("still passing on");
    let since = std::time::Instant::now();
    let error = Error::from(up.message().await.expect_err("noticed"));
    assert!(error.passes(), "{error}");
    assert!(since.elapsed().as_secs() < 8, "{:?}", since.elapsed());
}

#[tokio::test]
async fn certificates_are_renewed_without_a_restart() {
    let (old, new) = (Authority::new("old"), Authority::new("new"));
    let tls = old.node("w1", Role::Worker);
    let server = Running::with(&tls).await;
    let stranger = new.node("w2", Role::Worker);
    let met = client::connect(&server.address, Some(&stranger), &w1()).await;
    refused(met, Code::Unauthenticated, &["cannot be trusted"]);
    assert!(!tls.reload().expect("usable"));
    new.take_over(&old, "w1", Role::Worker);
    assert!(tls.reload().expect("usable"));
    let channel = client::connect(&server.address, Some(&stranger), &w1()).await;
    lane(channel.expect("connects"), vec![Down::Open(open("w2"))]).await.expect("admitted");
    // What cannot be used leaves the old ones in force.
    new.take_over(&old, "w1", Role::Admin);
    refused(tls.reload(), Code::Name, &["the new certificate is of admin `w1`"]);
    client::connect(&server.address, Some(&stranger), &w1()).await.expect("connects");
}

#[test]
fn tokens_are_renewed_without_a_restart() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("tokens.yaml");
    let write = |name: &str| {
        let text = format!("tokens: [{{name: {name}, role: admin, sha256: {}}}]", "ab".repeat(32));
        std::fs::write(&file, text).expect("written");
    };
    write("ann");
    let open = std::fs::Permissions::from_mode(0o644);
    std::fs::set_permissions(&file, open).expect("permitted");
    refused(rpc::Tokens::load(&file), Code::Argument, &["read by everybody", "chmod 600"]);
    let mine = std::fs::Permissions::from_mode(0o600);
    std::fs::set_permissions(&file, mine).expect("permitted");
    let tokens = rpc::Tokens::load(&file).expect("usable");
    assert!(!tokens.reload().expect("usable"));
    write("bob");
    assert!(tokens.reload().expect("usable"));
    std::fs::write(&file, "tokens: []").expect("written");
    refused(tokens.reload(), Code::Argument, &["`tokens`: is required"]);
}
