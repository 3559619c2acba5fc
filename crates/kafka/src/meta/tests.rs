use super::*;

fn records() -> [MetaRecord; 4] {
    let position = Position { commit_lsn: Lsn(0x16_B374_8000), ordinal: 7 };
    [
        MetaRecord::Watermark(Watermark {
            lsn: Lsn(0x16_B374_8030),
            system_id: 7_000_000_000_000_000_001,
            timeline: 2,
            lanes: vec![position, Position::ZERO],
            history: vec![Switch { timeline: 1, lsn: Lsn(0x16_0000_0148) }],
            standby: false,
        }),
        MetaRecord::Pin { topic: "public.orders".into(), partitions: 12 },
        MetaRecord::Snapshot(SnapshotState { id: "s1".into(), done: true, lsn: Lsn(9), gap: None }),
        MetaRecord::Revision(Box::new(Revision {
            number: 2,
            start: Lsn(9),
            shape: config::Shape { lanes: config::Lanes(3), ..config::Shape::default() },
            marks: Vec::new(),
        })),
    ]
}

/// Frozen: older programs have written this.
#[test]
fn the_bytes_of_the_meta_lane_do_not_change() {
    let entries = records().map(|record| record.to_entry().expect("JSON"));
    let texts =
        entries.map(|(key, json)| (key, String::from_utf8(json.expect("a value")).expect("UTF-8")));
    let expected = [
        (
            "w",
            concat!(
                r#"{"lsn":"16/B3748030","system_id":7000000000000000001,"timeline":2,"#,
                r#""lanes":["16/B3748000:7","0/0:0"],"#,
                r#""history":[{"timeline":1,"lsn":"16/148"}]}"#
            ),
        ),
        ("pin/public.orders", r#"{"partitions":12}"#),
        ("snapshot", r#"{"id":"s1","done":true,"lsn":"0/9"}"#),
        (
            "rev",
            concat!(
                r#"{"rev":2,"start":"0/9","shape":{"lanes":3,"partition_names":"parent","#,
                r#""sql_ascii":"fail","topic":"{schema}.{table}","topic_prefix":null,"#,
                r#""format":"debezium-json","#,
                r#""format_options":{"schemas":false,"tombstones":true,"truncate":true,"#,
                r#""decimal":"precise","time":"adaptive","interval":"numeric","#,
                r#""binary":"bytes","hstore":"json","compat":"lossless","#,
                r#""unavailable_value":"__debezium_unavailable_value"},"#,
                r#""partitioning":"primary-key","hash":"murmur2","unrepresentable":"fail","#,
                r#""headers":true,"objects":[]}}"#
            ),
        ),
    ];
    assert_eq!(texts, expected.map(|(key, json)| (key.to_owned(), json.to_owned())));
}

/// Earlier releases wrote it without a history.
#[test]
fn a_watermark_of_an_earlier_release_is_read() {
    let json = r#"{"lsn":"0/9","system_id":7,"timeline":2,"lanes":["0/8:1"]}"#;
    let watermark: Watermark = serde_json::from_str(json).expect("JSON");
    assert!(watermark.history.is_empty() && !watermark.standby);
    assert_eq!(serde_json::to_string(&watermark).expect("JSON"), json);
    let of_standby = Watermark { standby: true, ..watermark };
    let json = r#"{"lsn":"0/9","system_id":7,"timeline":2,"lanes":["0/8:1"],"standby":true}"#;
    assert_eq!(serde_json::to_string(&of_standby).expect("JSON"), json);
    assert_eq!(serde_json::from_str::<Watermark>(json).expect("JSON"), of_standby);
}

/// Frozen: consumers read this.
#[test]
fn the_bytes_of_what_consumers_are_told_do_not_change() {
    let [MetaRecord::Watermark(watermark), ..] = records() else { panic!("the first is one") };
    let told = |time| serde_json::to_string(&Resolved::of("shop", &watermark, time)).expect("JSON");
    let expected = concat!(
        r#"{"v":1,"task":"shop","lsn":"16/B3748030","system_id":7000000000000000001,"#,
        r#""timeline":2,"commit_time_us":1709605230500000}"#
    );
    assert_eq!(told(Some(1_709_605_230_500_000)), expected);
    assert!(told(None).ends_with(r#""commit_time_us":null}"#));
}

#[test]
fn the_state_is_the_last_record_of_each_key() {
    let mut state = MetaState::default();
    let mut apply = |record: &MetaRecord| {
        let (key, value) = record.to_entry().expect("JSON");
        let value = value.unwrap_or_default();
        state.apply(&Entry { offset: 0, key, value }).expect("readable");
    };
    apply(&MetaRecord::Pin { topic: "public.orders".into(), partitions: 3 });
    records().iter().for_each(apply);
    assert_eq!(state.pins, BTreeMap::from([("public.orders".to_owned(), 12)]));
    assert_eq!(state.snapshot.expect("a snapshot").id, "s1");
    assert_eq!(state.watermark.expect("a watermark").lanes.len(), 2);
    assert_eq!(state.revision.expect("a revision").shape.lanes.0, 3);
}

#[test]
fn a_plan_is_there_until_its_table_is_copied() {
    let plan = |json: Option<&str>| {
        let (name, json) = ("s1/16385".into(), json.map(Into::into));
        let (key, value) = MetaRecord::Plan { name, json }.to_entry().expect("JSON");
        Entry { offset: 0, key, value: value.unwrap_or_default() }
    };
    let state = |entries: Vec<Entry>| {
        let mut state = MetaState::default();
        newest(entries).iter().for_each(|entry| state.apply(entry).expect("readable"));
        state.plans
    };
    let expected = BTreeMap::from([("s1/16385".to_owned(), "{}".to_owned())]);
    assert_eq!(state(vec![plan(Some("[]")), plan(Some("{}"))]), expected);
    assert_eq!(state(vec![plan(Some("{}")), plan(None)]), BTreeMap::new());
}

#[test]
fn a_description_is_there_until_its_table_is_forgotten() {
    let table = |json: Option<&str>| {
        let record = MetaRecord::Table { oid: 16_385, json: json.map(Into::into) };
        let (key, value) = record.to_entry().expect("JSON");
        assert_eq!(key, "table/16385");
        Entry { offset: 0, key, value: value.unwrap_or_default() }
    };
    let state = |entries: Vec<Entry>| {
        let mut state = MetaState::default();
        newest(entries).iter().for_each(|entry| state.apply(entry).expect("readable"));
        state.tables
    };
    let expected = BTreeMap::from([(16_385, "{}".to_owned())]);
    assert_eq!(state(vec![table(Some("[]")), table(Some("{}"))]), expected);
    assert_eq!(state(vec![table(Some("{}")), table(None)]), BTreeMap::new());
}

#[test]
fn the_last_entry_of_each_key_counts_whatever_was_before() {
    let entry =
        |offset, key: &str, value: &[u8]| Entry { offset, key: key.into(), value: value.into() };
    let kept = newest(vec![entry(0, "w", b"{"), entry(1, "pin/a", b"1"), entry(2, "w", b"2")]);
    let kept: Vec<_> = kept.into_iter().map(|entry| (entry.offset, entry.key)).collect();
    assert_eq!(kept, [(1, "pin/a".to_owned()), (2, "w".to_owned())]);
}

#[test]
fn a_pin_can_be_taken_back_but_not_deleted() {
    let mut state = MetaState::default();
    let mut apply =
        |value: &[u8]| state.apply(&Entry { offset: 0, key: "pin/a".into(), value: value.into() });
    apply(br#"{"partitions":3}"#).expect("a pin");
    apply(br#"{"partitions":0}"#).expect("no pin");
    assert!(matches!(apply(b""), Err(Unusable::Deleted)));
    assert_eq!(state, MetaState::default());
}

#[test]
fn damage_is_told_and_later_keys_are_left_alone() {
    let mut state = MetaState::default();
    let entry = |key: &str| Entry { offset: 0, key: key.into(), value: b"{".to_vec() };
    assert!(state.apply(&entry("w")).is_err());
    assert!(state.apply(&entry("of-a-later-release")).is_ok());
    assert_eq!(state, MetaState::default());
}

#[test]
fn marks_are_kept_until_every_lane_holds_what_commits_before_them() {
    let shape = |lanes| config::Shape { lanes: config::Lanes(lanes), ..config::Shape::default() };
    let begun = Revision { number: 2, start: Lsn(9), shape: shape(1), marks: Vec::new() };
    let marked = begun.clone().marked(Lsn(20), shape(2)).marked(Lsn(30), shape(3));
    assert_eq!(marked.newest(), (4, &shape(3)));
    assert_eq!(marked.clone().passed(Lsn(19)), marked);
    let one = marked.clone().passed(Lsn(20));
    assert_eq!((one.number, one.start, &one.shape), (3, Lsn(20), &shape(2)));
    assert_eq!(one.newest(), (4, &shape(3)));
    let all = marked.clone().passed(Lsn(31));
    assert_eq!((all.number, all.start, all.marks.len()), (4, Lsn(30), 0));
    // Nothing commits between two marks at one place.
    let replaced = marked.marked(Lsn(30), shape(4));
    assert_eq!(replaced.marks.iter().map(|it| it.number).collect::<Vec<_>>(), [3, 5]);
    let text = serde_json::to_string(&replaced).expect("JSON");
    assert!(text.contains(r#""marks":[{"rev":3,"at":"0/14","shape":{"lanes":2,"#), "{text}");
    assert_eq!(serde_json::from_str::<Revision>(&text).expect("a revision"), replaced);
}
