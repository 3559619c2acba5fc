//! Each format by its real consumer: what it makes of the records of a topic is the table of the source.

#[path = "consumers/avro.rs"]
mod avro;
#[path = "consumers/beside.rs"]
mod beside;
#[path = "consumers/connect.rs"]
mod connect;
#[path = "consumers/differences.rs"]
mod differences;
#[path = "consumers/flink.rs"]
mod flink;
#[path = "consumers/goods.rs"]
mod goods;
#[path = "consumers/options.rs"]
mod options;
#[path = "consumers/protobuf.rs"]
mod protobuf;
#[path = "consumers/sink.rs"]
mod sink;
