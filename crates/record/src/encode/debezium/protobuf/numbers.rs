//! Field numbers, which are for ever (formats/protobuf.md): what the versions of a subject say of them.
//!
//! A column is known by its name and by what its values mean. One that is dropped and comes back as it was
//! has its old number again: rows from before the drop are read again after a restart, and must be what
//! they were.

use super::message::{Field, Message, Side, Signature, camel};
use prost_types::{
    DescriptorProto, FieldDescriptorProto, UninterpretedOption, field_descriptor_proto,
};
use std::collections::{BTreeMap, BTreeSet};

/// The numbers that no field may have (protobuf.dev, "Assigning Field Numbers").
const RESERVED: std::ops::RangeInclusive<u32> = 19_000..=19_999;
/// What is read of one `reserved` statement.
const RANGE_MAX: u32 = 10_000;
/// Messages in messages that are read: ours have three.
const DEPTH_MAX: usize = 32;

/// What the versions of a subject have used.
#[derive(Debug, Default)]
pub(crate) struct Past {
    fields: BTreeMap<(Box<str>, Signature), u32>,
    numbers: BTreeSet<u32>,
    names: BTreeSet<Box<str>>,
}

/// The numbers of the fields of `message`, where `text` has these and no others.
pub(crate) fn same(message: &Message, text: &str) -> Option<Box<[u32]>> {
    let row = row(message, text)?;
    let mut known: BTreeMap<_, _> = row.field.iter().filter_map(known).collect();
    let find = |field: &Field| known.remove(&(field.name.clone(), field.signature.clone()));
    let numbers = message.fields.iter().map(find).collect::<Option<_>>()?;
    known.is_empty().then_some(numbers)
}

impl Past {
    /// Of versions of a message, the oldest first. What is no version of it says nothing.
    pub(crate) fn of<'a>(message: &Message, versions: impl Iterator<Item = &'a str>) -> Self {
        let mut past = Self::default();
        for row in versions.filter_map(|text| row(message, text)) {
            for (field, number) in row.field.iter().filter_map(known) {
                past.names.insert(field.0.clone());
                // What two versions have given to two fields is the first one's.
                if past.numbers.insert(number) {
                    past.fields.entry(field).or_insert(number);
                }
            }
            past.names.extend(row.reserved_name.into_iter().map(Into::into));
            for range in row.reserved_range {
                let [start, end] =
                    [range.start(), range.end()].map(|at| u32::try_from(at).unwrap_or(0));
                past.numbers.extend(start..end.min(start.saturating_add(RANGE_MAX)));
            }
        }
        past
    }

    /// A number for each field: the one it had, or one that none ever had.
    pub(crate) fn number(&self, message: &Message) -> Box<[u32]> {
        let mut last = self.numbers.last().copied().unwrap_or(0);
        let number = |field: &Field| {
            let known = self.fields.get(&(field.name.clone(), field.signature.clone()));
            known.copied().unwrap_or_else(|| {
                last += 1;
                if RESERVED.contains(&last) {
                    last = RESERVED.end() + 1;
                }
                last
            })
        };
        message.fields.iter().map(number).collect()
    }

    /// Numbers and names that are not used any more.
    pub(super) fn gone(
        &self,
        fields: &[Field],
        numbers: &[u32],
    ) -> (impl Iterator<Item = &u32>, impl Iterator<Item = &Box<str>>) {
        let live: BTreeSet<&str> = fields.iter().map(|field| &*field.name).collect();
        let used: BTreeSet<u32> = numbers.iter().copied().collect();
        (
            self.numbers.iter().filter(move |number| !used.contains(number)),
            // The parser takes no reserved name that begins with an underscore; the number is reserved anyway.
            self.names
                .iter()
                .filter(move |name| !live.contains(&***name) && !name.starts_with('_')),
        )
    }
}

/// The message of the columns in a file that may be a version of this one.
fn row(message: &Message, text: &str) -> Option<DescriptorProto> {
    if DEPTH_MAX < depth(text) {
        return None;
    }
    let file = protox_parse::parse("version.proto", text).ok()?;
    if file.package() != &*message.package {
        return None;
    }
    let named = |messages: Vec<DescriptorProto>, name: &str| {
        messages.into_iter().find(|message| message.name() == name)
    };
    let found = named(file.message_type, message.side.name())?;
    match message.side {
        Side::Key => Some(found),
        Side::Envelope => named(found.nested_type, "Value"),
    }
}

/// How deep braces stand in braces, at most.
fn depth(text: &str) -> usize {
    let (mut depth, mut deepest) = (0_usize, 0);
    for byte in text.bytes() {
        match byte {
            b'{' | b'[' | b'(' | b'<' => depth += 1,
            b'}' | b']' | b')' | b'>' => depth = depth.saturating_sub(1),
            _ => {}
        }
        deepest = deepest.max(depth);
    }
    deepest
}

/// Name and signature of a field, and its number.
fn known(field: &FieldDescriptorProto) -> Option<((Box<str>, Signature), u32)> {
    let name = field.name();
    let extension = |name: &str| {
        let mut options = field.options.iter().flat_map(|options| &options.uninterpreted_option);
        let found = options.find(|option| is_extension(option, name))?;
        String::from_utf8(found.string_value.clone()?).ok()
    };
    let signature = Signature {
        type_: word(field)?.into(),
        semantic: extension("distributary.semantic").map(Into::into),
        // The parser takes it from among the options.
        json: field.json_name.clone().unwrap_or_else(|| camel(name)).into(),
    };
    Some(((name.into(), signature), u32::try_from(field.number()).ok()?))
}

fn is_extension(option: &UninterpretedOption, name: &str) -> bool {
    match option.name.as_slice() {
        [part] => part.is_extension && part.name_part.trim_start_matches('.') == name,
        _ => false,
    }
}

/// The type as [`super::form::Form::word`] says it.
fn word(field: &FieldDescriptorProto) -> Option<&str> {
    use field_descriptor_proto::Type;
    if let Some(name) = &field.type_name {
        return name.rsplit('.').next();
    }
    #[expect(clippy::wildcard_enum_match_arm, reason = "a foreign enum; ours are these")]
    Some(match Type::try_from(field.r#type?).ok()? {
        Type::Bool => "bool",
        Type::Int32 => "int32",
        Type::Int64 => "int64",
        Type::Float => "float",
        Type::Double => "double",
        Type::String => "string",
        Type::Bytes => "bytes",
        // Written by somebody else: its number is taken all the same.
        _ => "other",
    })
}
