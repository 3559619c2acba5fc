//! What consumers are told beside the rows, on topics of their own: heartbeats, and the borders of source
//! transactions. DTS Avro has records of its own for both, Canal and SharePlex JSON for heartbeats; the rest is
//! Debezium's, in JSON whatever the format of the rows is.

use crate::encode::{Codec, dts, heartbeat};
use crate::plan::TaskPlan;
use crate::transaction::{self, Summary};
use wal::Lsn;

/// Key and value of a record.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Told {
    /// `None`: null.
    pub key: Option<Vec<u8>>,
    pub value: Vec<u8>,
}

/// Words them for one task.
#[derive(Clone, Debug)]
pub struct Teller {
    codec: Codec,
    prefix: Box<str>,
    /// Those of BEGIN and END, in front of what they describe; `None`: records come without schemas.
    border_schemas: Option<Schemas>,
    zulu: bool,
    /// Of the task, from 1; 0: there are no several.
    stream: u8,
    /// `source` of DTS's records.
    source: Box<[u8]>,
}

impl Teller {
    #[must_use]
    pub fn new(task: &TaskPlan) -> Self {
        Self {
            codec: task.codec,
            prefix: task.prefix.clone(),
            border_schemas: task.options.schemas.then(Schemas::of_borders),
            zulu: task.options.zulu,
            stream: task.stream,
            source: dts::source(task).into(),
        }
    }

    /// A heartbeat: everything up to `lsn` can be seen. `now_us`: microseconds since 1970. `None`: the format
    /// has none.
    #[must_use]
    pub fn heartbeat(&self, lsn: Lsn, now_us: i64) -> Option<Told> {
        let (key, value) = match self.codec {
            Codec::DebeziumJson | Codec::DebeziumAvro | Codec::Protobuf => {
                let (key, value) =
                    heartbeat::debezium(&self.prefix, self.border_schemas.is_some(), now_us);
                (Some(key), value)
            }
            Codec::DtsAvro => (None, dts::heartbeat(&self.source, self.stream, lsn, now_us)),
            Codec::Canal => (None, heartbeat::canal(self.stream, lsn, now_us)),
            Codec::SharePlex => (None, heartbeat::shareplex(lsn, self.zulu, now_us)),
            Codec::Maxwell => return None,
        };
        Some(Told { key, value })
    }

    /// BEGIN and END of a transaction; in DTS's words BEGIN and COMMIT.
    #[must_use]
    pub fn transaction(&self, summary: &Summary) -> [Told; 2] {
        match self.codec {
            Codec::DtsAvro => dts::borders(&self.source, self.stream, summary)
                .map(|value| Told { key: None, value }),
            Codec::DebeziumJson
            | Codec::DebeziumAvro
            | Codec::Canal
            | Codec::Maxwell
            | Codec::SharePlex
            | Codec::Protobuf => {
                let mut told = summary.told();
                if let Some(schemas) = &self.border_schemas {
                    told.iter_mut().for_each(|it| schemas.describe(it));
                }
                told
            }
        }
    }
}

/// Connect schemas of a key and a value, as JSON up to where the payload goes.
#[derive(Clone, Debug)]
struct Schemas {
    key: Box<[u8]>,
    value: Box<[u8]>,
}

impl Schemas {
    fn of_borders() -> Self {
        let open = |schema: serde_json::Value| {
            format!("{{\"schema\":{schema},\"payload\":").into_bytes().into_boxed_slice()
        };
        let [key, value] = transaction::schemas();
        Self { key: open(key), value: open(value) }
    }

    fn describe(&self, told: &mut Told) {
        let whole = |open: &[u8], payload: &[u8]| [open, payload, b"}"].concat();
        told.key = told.key.as_deref().map(|key| whole(&self.key, key));
        told.value = whole(&self.value, &told.value);
    }
}
