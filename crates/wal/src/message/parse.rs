//! Bytes → messages. One pass, nothing copied, nothing allocated.

use super::{
    Begin, BeginPrepare, Column, Columns, Commit, CommitPrepared, Context, Delete, Error, Insert,
    Logical, Message, Oids, OldTuple, Origin, Prepare, Protocol, Relation, RollbackPrepared,
    StreamAbort, StreamCommit, StreamStart, Truncate, Type, Update,
};
use crate::table::ReplicaIdentity;
use crate::{Lsn, Tuple};

impl<'a> Message<'a> {
    /// Parses one whole message.
    ///
    /// # Errors
    /// When the bytes end early, go on behind the message, or are not what the protocol allows.
    pub fn parse(bytes: &'a [u8], context: Context) -> Result<Self, Error> {
        let (&tag, rest) = bytes.split_first().ok_or(Error::Empty)?;
        let mut body = Body { rest };
        let message = match tag {
            b'I' => Self::Insert(body.insert(context)?),
            b'U' => Self::Update(body.update(context)?),
            b'D' => Self::Delete(body.delete(context)?),
            b'B' => Self::Begin(body.begin()?),
            b'C' => Self::Commit(body.commit()?),
            b'R' => Self::Relation(body.relation(context)?),
            b'T' => Self::Truncate(body.truncate(context)?),
            b'Y' => Self::Type(body.type_(context)?),
            b'O' => Self::Origin(Origin {
                commit_lsn: body.lsn("commit_lsn")?,
                name: body.text("name")?,
            }),
            b'M' => Self::Logical(body.logical(context)?),
            tag => body.later(tag, context.protocol)?,
        };
        match body.rest.len() {
            0 => Ok(message),
            bytes => Err(Error::Trailing { bytes }),
        }
    }
}

/// What is left of a message.
struct Body<'a> {
    rest: &'a [u8],
}

impl<'a> Body<'a> {
    fn take<const N: usize>(&mut self, field: &'static str) -> Result<[u8; N], Error> {
        let (taken, rest) = self.rest.split_first_chunk().ok_or(Error::Short { field })?;
        self.rest = rest;
        Ok(*taken)
    }

    fn byte(&mut self, field: &'static str) -> Result<u8, Error> {
        self.take::<1>(field).map(|[byte]| byte)
    }

    fn uint32(&mut self, field: &'static str) -> Result<u32, Error> {
        self.take(field).map(u32::from_be_bytes)
    }

    fn lsn(&mut self, field: &'static str) -> Result<Lsn, Error> {
        self.take(field).map(|bytes| Lsn(u64::from_be_bytes(bytes)))
    }

    fn time(&mut self, field: &'static str) -> Result<i64, Error> {
        self.take(field).map(i64::from_be_bytes)
    }

    fn xid(&mut self, context: Context) -> Result<Option<u32>, Error> {
        context.in_stream.then(|| self.uint32("xid")).transpose()
    }

    /// A String: ends with a zero byte, which is not part of it.
    fn text(&mut self, field: &'static str) -> Result<&'a str, Error> {
        let end = memchr::memchr(0, self.rest).ok_or(Error::Short { field })?;
        let (text, rest) = self.rest.split_at(end);
        self.rest = &rest[1..];
        std::str::from_utf8(text).map_err(|_| Error::NotText { field })
    }

    fn slice(&mut self, length: usize, field: &'static str) -> Result<&'a [u8], Error> {
        let (taken, rest) = self.rest.split_at_checked(length).ok_or(Error::Short { field })?;
        self.rest = rest;
        Ok(taken)
    }

    fn tuple(&mut self, field: &'static str) -> Result<Tuple<'a>, Error> {
        let (tuple, taken) =
            Tuple::check(self.rest).map_err(|error| Error::Tuple { field, error })?;
        self.rest = &self.rest[taken..];
        Ok(tuple)
    }

    fn begin(&mut self) -> Result<Begin, Error> {
        Ok(Begin {
            final_lsn: self.lsn("final_lsn")?,
            commit_time: self.time("commit_time")?,
            xid: self.uint32("xid")?,
        })
    }

    fn commit(&mut self) -> Result<Commit, Error> {
        self.byte("flags")?;
        Ok(Commit {
            commit_lsn: self.lsn("commit_lsn")?,
            end_lsn: self.lsn("end_lsn")?,
            commit_time: self.time("commit_time")?,
        })
    }

    fn insert(&mut self, context: Context) -> Result<Insert<'a>, Error> {
        let (xid, oid) = (self.xid(context)?, self.uint32("relation")?);
        match self.byte("tuple kind")? {
            b'N' => Ok(Insert { xid, oid, new: self.tuple("new")? }),
            value => Err(Error::UnknownValue { field: "tuple kind", value }),
        }
    }

    fn update(&mut self, context: Context) -> Result<Update<'a>, Error> {
        let (xid, oid) = (self.xid(context)?, self.uint32("relation")?);
        let mut kind = self.byte("tuple kind")?;
        let mut old = None;
        if kind != b'N' {
            old = Some(self.old(kind)?);
            kind = self.byte("tuple kind")?;
        }
        match kind {
            b'N' => Ok(Update { xid, oid, old, new: self.tuple("new")? }),
            value => Err(Error::UnknownValue { field: "tuple kind", value }),
        }
    }

    fn delete(&mut self, context: Context) -> Result<Delete<'a>, Error> {
        let (xid, oid) = (self.xid(context)?, self.uint32("relation")?);
        let kind = self.byte("tuple kind")?;
        Ok(Delete { xid, oid, old: self.old(kind)? })
    }

    fn old(&mut self, kind: u8) -> Result<OldTuple<'a>, Error> {
        match kind {
            b'K' => self.tuple("old key").map(OldTuple::Key),
            b'O' => self.tuple("old row").map(OldTuple::Row),
            value => Err(Error::UnknownValue { field: "tuple kind", value }),
        }
    }

    fn truncate(&mut self, context: Context) -> Result<Truncate<'a>, Error> {
        let xid = self.xid(context)?;
        let count = self.uint32("relations")? as usize;
        let options = self.byte("options")?;
        let bytes = count.checked_mul(4).ok_or(Error::Short { field: "relations" })?;
        let (relations, _) = self.slice(bytes, "relations")?.as_chunks();
        Ok(Truncate {
            xid,
            cascade: options & 1 != 0,
            restart_identity: options & 2 != 0,
            relations: Oids(relations),
        })
    }

    fn type_(&mut self, context: Context) -> Result<Type<'a>, Error> {
        Ok(Type {
            xid: self.xid(context)?,
            oid: self.uint32("type")?,
            schema: self.text("schema")?,
            name: self.text("name")?,
        })
    }

    fn logical(&mut self, context: Context) -> Result<Logical<'a>, Error> {
        let xid = self.xid(context)?;
        let transactional = self.byte("flags")? & 1 != 0;
        let lsn = self.lsn("lsn")?;
        let prefix = self.text("prefix")?;
        let length = self.uint32("content")? as usize;
        let content = self.slice(length, "content")?;
        Ok(Logical { xid, transactional, lsn, prefix, content })
    }

    fn relation(&mut self, context: Context) -> Result<Relation<'a>, Error> {
        let (xid, oid) = (self.xid(context)?, self.uint32("relation")?);
        let (schema, name) = (self.text("schema")?, self.text("name")?);
        let identity = match self.byte("replica identity")? {
            b'd' => ReplicaIdentity::Default,
            b'n' => ReplicaIdentity::Nothing,
            b'f' => ReplicaIdentity::Full,
            b'i' => ReplicaIdentity::Index,
            value => return Err(Error::UnknownValue { field: "replica identity", value }),
        };
        let count = u16::from_be_bytes(self.take("columns")?);
        let data = self.rest;
        for _ in 0..count {
            self.column()?;
        }
        let data = &data[..data.len() - self.rest.len()];
        Ok(Relation { xid, oid, schema, name, identity, columns: Columns { count, data } })
    }

    fn column(&mut self) -> Result<Column<'a>, Error> {
        Ok(Column {
            in_identity: self.byte("column flags")? & 1 != 0,
            name: self.text("column name")?,
            type_oid: self.uint32("column type")?,
            type_modifier: self.take("column type modifier").map(i32::from_be_bytes)?,
        })
    }

    /// Messages that version 1 does not have.
    fn later(&mut self, tag: u8, protocol: Protocol) -> Result<Message<'a>, Error> {
        let since = match tag {
            b'S' | b'E' | b'c' | b'A' => Protocol::V2,
            b'b' | b'P' | b'K' | b'r' | b'p' => Protocol::V3,
            tag => return Err(Error::UnknownTag { tag }),
        };
        if protocol < since {
            return Err(Error::LaterProtocol { tag });
        }
        match tag {
            b'S' => Ok(Message::StreamStart(StreamStart {
                xid: self.uint32("xid")?,
                first_segment: self.byte("first segment")? != 0,
            })),
            b'E' => Ok(Message::StreamStop),
            b'c' => {
                let (xid, commit) = (self.uint32("xid")?, self.commit()?);
                Ok(Message::StreamCommit(StreamCommit { xid, commit }))
            }
            b'A' => self.stream_abort(protocol).map(Message::StreamAbort),
            b'b' => self.begin_prepare().map(Message::BeginPrepare),
            b'P' => self.prepare().map(Message::Prepare),
            b'p' => self.prepare().map(Message::StreamPrepare),
            b'K' => {
                let commit = self.commit()?;
                let (xid, gid) = (self.uint32("xid")?, self.text("gid")?);
                Ok(Message::CommitPrepared(CommitPrepared { commit, xid, gid }))
            }
            _ => self.rollback_prepared().map(Message::RollbackPrepared),
        }
    }

    /// Version 4 alone does not tell whether LSN and time are there: `streaming = parallel` does.
    fn stream_abort(&mut self, protocol: Protocol) -> Result<StreamAbort, Error> {
        let (xid, subtransaction) = (self.uint32("xid")?, self.uint32("subtransaction")?);
        let abort = (protocol == Protocol::V4 && !self.rest.is_empty())
            .then(|| Ok((self.lsn("abort_lsn")?, self.time("abort_time")?)))
            .transpose()?;
        Ok(StreamAbort { xid, subtransaction, abort })
    }

    fn begin_prepare(&mut self) -> Result<BeginPrepare<'a>, Error> {
        Ok(BeginPrepare {
            prepare_lsn: self.lsn("prepare_lsn")?,
            end_lsn: self.lsn("end_lsn")?,
            prepare_time: self.time("prepare_time")?,
            xid: self.uint32("xid")?,
            gid: self.text("gid")?,
        })
    }

    fn prepare(&mut self) -> Result<Prepare<'a>, Error> {
        self.byte("flags")?;
        Ok(Prepare {
            prepare_lsn: self.lsn("prepare_lsn")?,
            end_lsn: self.lsn("end_lsn")?,
            prepare_time: self.time("prepare_time")?,
            xid: self.uint32("xid")?,
            gid: self.text("gid")?,
        })
    }

    fn rollback_prepared(&mut self) -> Result<RollbackPrepared<'a>, Error> {
        self.byte("flags")?;
        Ok(RollbackPrepared {
            prepare_end_lsn: self.lsn("prepare_end_lsn")?,
            rollback_end_lsn: self.lsn("rollback_end_lsn")?,
            prepare_time: self.time("prepare_time")?,
            rollback_time: self.time("rollback_time")?,
            xid: self.uint32("xid")?,
            gid: self.text("gid")?,
        })
    }
}

impl<'a> Columns<'a> {
    /// The columns in tuple order.
    pub fn iter(self) -> impl Iterator<Item = Column<'a>> {
        let mut body = Body { rest: self.data };
        // The bytes were walked once by `Body::relation`, so no column is refused here.
        (0..self.count).map_while(move |_| body.column().ok())
    }
}
