//! Protobuf as another library reads it: schemas by `protox`, messages by `prost-reflect`.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use prost_reflect::{DescriptorPool, DynamicMessage, MessageDescriptor, ReflectMessage, Value};
use protox::file::{ChainFileResolver, File, FileResolver, GoogleFileResolver};
use serde_json::{Map, Value as Json};

/// Files by name: the schema's own and what it imports.
struct Files(Vec<(String, String)>);

const MAIN: &str = "main.proto";

impl FileResolver for Files {
    fn open_file(&self, name: &str) -> Result<File, protox::Error> {
        match self.0.iter().find(|(found, _)| found == name) {
            Some((name, text)) => File::from_source(name, text),
            None => Err(protox::Error::file_not_found(name)),
        }
    }
}

/// The first message of a file. `imports`: name and text of others.
pub(crate) fn compile(text: &str, imports: &[(&str, &str)]) -> MessageDescriptor {
    let mut files = ChainFileResolver::new();
    let owned = |(name, text): (&str, &str)| (name.to_owned(), text.to_owned());
    files.add(Files(imports.iter().copied().chain([(MAIN, text)]).map(owned).collect()));
    files.add(GoogleFileResolver::new());
    let mut compiler = protox::Compiler::with_file_resolver(files);
    compiler.include_imports(true);
    compiler.open_file(MAIN).unwrap_or_else(|error| panic!("{error}\n{text}"));
    let set = compiler.file_descriptor_set();
    let pool = DescriptorPool::from_file_descriptor_set(set).expect("descriptors");
    let file = pool.get_file_by_name(MAIN).expect("the file");
    // The frame says: the first message.
    file.messages().next().expect("a message")
}

/// What a reader makes of a framed record: null where a field is absent.
#[track_caller]
pub(crate) fn read(framed: &[u8], id: u32, message: &MessageDescriptor) -> Json {
    let (head, rest) = framed.split_first_chunk::<6>().expect("a frame");
    assert_eq!(*head, [&[0], id.to_be_bytes().as_slice(), &[0]].concat()[..]);
    let message = DynamicMessage::decode(message.clone(), rest).expect("a message of the schema");
    assert_eq!(message.unknown_fields().count(), 0);
    object(&message)
}

fn object(message: &DynamicMessage) -> Json {
    let field = |field: prost_reflect::FieldDescriptor| {
        let is_absent = field.supports_presence() && !message.has_field(&field);
        let value = if is_absent { Json::Null } else { json(&message.get_field(&field)) };
        (field.name().to_owned(), value)
    };
    Json::Object(message.descriptor().fields().map(field).collect::<Map<_, _>>())
}

fn json(value: &Value) -> Json {
    let float = |value: f64, text: String| match value {
        value if value.is_nan() => "NaN".into(),
        value if value.is_infinite() && value < 0.0 => "-Infinity".into(),
        value if value.is_infinite() => "Infinity".into(),
        // The server's text of four bytes is shorter than that of the same number in eight.
        _ => text.parse::<f64>().expect("a number").into(),
    };
    match value {
        Value::Bool(value) => (*value).into(),
        Value::I32(value) => (*value).into(),
        Value::I64(value) => (*value).into(),
        Value::F32(value) => float((*value).into(), value.to_string()),
        Value::F64(value) => float(*value, value.to_string()),
        Value::String(value) => value.as_str().into(),
        Value::Bytes(value) => STANDARD.encode(value).into(),
        Value::Message(value) => {
            assert_eq!(value.unknown_fields().count(), 0);
            object(value)
        }
        Value::List(items) => items.iter().map(json).collect(),
        Value::U32(_) | Value::U64(_) | Value::EnumNumber(_) | Value::Map(_) => {
            panic!("not written: {value:?}")
        }
    }
}
