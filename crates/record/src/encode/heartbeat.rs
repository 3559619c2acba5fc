//! Heartbeats of the JSON formats (formats/debezium.md, section 1.6; canal-json.md and shareplex-json.md, worked
//! examples).

use super::connect;
use super::serial::Serial;
use super::shareplex::moment;
use serde_json::{Value, json};
use wal::Lsn;

/// Key and value. `schemas`: with their Connect schemas.
pub(crate) fn debezium(prefix: &str, schemas: bool, now_us: i64) -> (Vec<u8>, Vec<u8>) {
    let schema = |type_: &str, field: &str, name: &str| {
        let name = format!("io.debezium.connector.common.{name}");
        connect::structure(&name, false, &[connect::field(type_, false, field)])
    };
    let whole = |schema: Value, payload: Value| {
        let json = if schemas { json!({"schema": schema, "payload": payload}) } else { payload };
        json.to_string().into_bytes()
    };
    let key = schema("string", "serverName", "ServerNameKey");
    let value = schema("int64", "ts_ms", "Heartbeat");
    (
        whole(key, json!({"serverName": prefix})),
        whole(value, json!({"ts_ms": now_us.div_euclid(1000)})),
    )
}

pub(crate) fn canal(stream: u8, lsn: Lsn, now_us: i64) -> Vec<u8> {
    let now_ms = now_us.div_euclid(1000);
    let message = json!({
        "data": null, "database": "", "es": now_ms, "id": Serial::of_heartbeat(stream, lsn), "isDdl": false,
        "mysqlType": null, "old": null, "pkNames": null, "sql": "", "sqlType": null, "table": "",
        "ts": now_ms, "type": "MHEARTBEAT",
    });
    message.to_string().into_bytes()
}

pub(crate) fn shareplex(lsn: Lsn, zulu: bool, now_us: i64) -> Vec<u8> {
    let mut now = Vec::new();
    moment(now_us, zulu, &mut now);
    let now = String::from_utf8_lossy(&now);
    let now = now.trim_matches('"');
    let message = json!({
        "meta": {
            "time": now, "userid": 0, "op": "hb", "scn": lsn.0.to_string(), "rowid": "", "trans": "",
            "seq": 1, "size": 1, "table": "", "idx": "1/1", "posttime": now,
        },
        "data": {},
    });
    message.to_string().into_bytes()
}
