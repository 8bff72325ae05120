//! Makes one WAL segment: reads committed frames, verifies every one, encodes them. Blocking; reads the WAL only.

use std::io;

use bytes::Bytes;

use crate::format::layout::{Generation, WalIndex};
use crate::format::lz4;
use crate::format::note::Note;
use crate::format::wal::{Chain, FRAME_HEADER_LEN, HEADER_LEN, Header, Salt};
use crate::plan::database::SegmentJob;
use crate::plan::replica::SEGMENT_BYTES;
use crate::source::tail::WalBytes;

/// A segment ready to be put.
#[derive(Debug, Clone)]
pub(super) struct Encoded {
    /// One LZ4 frame.
    pub(super) object: Bytes,
    /// Where it ends in the WAL.
    pub(super) to: u64,
    /// Bytes before compression.
    #[cfg(test)]
    pub(super) plain: u64,
    /// Where it leaves its index.
    pub(super) trail: Trail,
}

/// The end of the last segment a replica has of its newest index.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Trail {
    generation: Generation,
    index: WalIndex,
    /// Offsets as the index counts them, which in a split one is not as the WAL does.
    chain: Chain,
}

/// Encodes the segment `job` asks for out of `wal`, whose header is `header`.
///
/// Ends at the last commit that keeps it below [`SEGMENT_BYTES`]; in the middle of a transaction only when that is
/// larger, in which case a reader waits for the rest. `trail` is what the segment before left: a
/// split index goes on from it, and the first segment of an index says where the one before ended.
///
/// # Errors
/// A frame whose salt or running checksum does not continue the WAL, as `InvalidData`.
pub(super) fn encode(
    job: &SegmentJob,
    wal: &WalBytes,
    header: &Header,
    trail: Option<Trail>,
) -> io::Result<Encoded> {
    let mut chain = wal.chain_at(header, job.from.max(HEADER_LEN as u64))?;
    let to = if job.exact { job.to } else { cut(wal, &chain, job.to)? };
    let mut target = if job.base == 0 { None } else { Some(target(job, wal, header, trail)?) };
    let mut out = Vec::with_capacity(usize::try_from(to - job.from).unwrap_or(0) / 4);
    let mut encoder = match follows(job, trail) {
        Some(note) => lz4::Encoder::with_note(note),
        None => lz4::Encoder::new(),
    };
    match &target {
        None if job.from == 0 => {
            let mut bytes = [0; HEADER_LEN];
            wal.read(&mut bytes, 0)?;
            encoder.write(&bytes, &mut out);
        }
        Some(_) if job.from == job.base => encoder.write(&split_header(header, job.base).encode(), &mut out),
        None | Some(_) => {}
    }
    each_chunk(wal, &mut chain, to, |chunk, frame_len| {
        if let Some(target) = &mut target {
            chunk.chunks_exact_mut(frame_len).for_each(|frame| target.seal(frame));
        }
        encoder.write(chunk, &mut out);
    })?;
    encoder.finish(&mut out);
    out.shrink_to_fit();
    Ok(Encoded {
        object: Bytes::from(out),
        to,
        #[cfg(test)]
        plain: to - job.from,
        trail: Trail { generation: job.generation, index: job.index, chain: target.unwrap_or(chain) },
    })
}

/// Reads and verifies everything from `chain` to `to`, handing it on in whole frames.
fn each_chunk(
    wal: &WalBytes,
    chain: &mut Chain,
    to: u64,
    mut give: impl FnMut(&mut [u8], usize),
) -> io::Result<()> {
    let frame_len = chain.frame_len();
    let most = frame_len * (CHUNK / frame_len).max(1);
    let mut buf = vec![0; most.min(usize::try_from(to - chain.offset).unwrap_or(most))];
    while chain.offset < to {
        let len = usize::try_from(to - chain.offset).unwrap_or(most).min(most);
        let chunk = &mut buf[..len];
        wal.read(chunk, chain.offset)?;
        for frame in chunk.chunks(frame_len) {
            chain.verify(frame).map_err(|e| io::Error::new(io::ErrorKind::InvalidData, e))?;
        }
        give(chunk, frame_len);
    }
    Ok(())
}

/// The last commit at or before `to` that keeps the segment small, found by reading frame headers backwards.
fn cut(wal: &WalBytes, chain: &Chain, to: u64) -> io::Result<u64> {
    let frame_len = chain.frame_len() as u64;
    if to <= chain.offset + SEGMENT_BYTES {
        return Ok(to);
    }
    let frames = (SEGMENT_BYTES / frame_len).max(1);
    for n in (1..=frames).rev() {
        let end = chain.offset + n * frame_len;
        let mut commit = [0; 4];
        wal.read(&mut commit, end - frame_len + 4)?;
        if commit != [0; 4] {
            return Ok(end);
        }
    }
    Ok(chain.offset + frames * frame_len)
}

/// What the first segment of an index says about the one before, if we wrote its end and still know it.
fn follows(job: &SegmentJob, trail: Option<Trail>) -> Option<Note> {
    let trail = trail.filter(|t| t.generation == job.generation && t.index.next() == Some(job.index))?;
    (job.from == job.base)
        .then_some(Note::Follows { end: trail.chain.offset, checksum: trail.chain.checksum })
}

/// Where the chain of the split index stands at `job.from`: remembered, or walked again from where the index begins.
fn target(job: &SegmentJob, wal: &WalBytes, header: &Header, trail: Option<Trail>) -> io::Result<Chain> {
    let start = Chain::start(&split_header(header, job.base));
    let named = crate::plan::replica::named(job.base, job.from);
    match trail.map(|t| t.chain) {
        Some(chain) if chain.offset == named && chain.salt == start.salt => Ok(chain),
        Some(_) | None => {
            let (mut target, mut source) = (start, wal.chain_at(header, job.base)?);
            each_chunk(wal, &mut source, job.from, |chunk, frame_len| {
                chunk.chunks_exact_mut(frame_len).for_each(|frame| target.seal(frame));
            })?;
            Ok(target)
        }
    }
}

/// The header of an index that begins in the middle of a WAL: the same but for the second half of the salt, so that
/// frames of the one can never pass for frames of the other.
fn split_header(header: &Header, base: u64) -> Header {
    let frames = (base - HEADER_LEN as u64) / header.page_size.frame_len();
    let mut salt = header.salt.0;
    for (byte, add) in salt[4..].iter_mut().zip((frames as u32).to_be_bytes()) {
        *byte ^= add;
    }
    let header = Header { salt: Salt(salt), ..*header };
    // The checksum is the one the encoded bytes carry.
    Header::parse(&header.encode()).unwrap_or(header)
}

/// Bytes read at a time: enough to make a read cheap, little enough to stay in a core's cache.
const CHUNK: usize = 256 << 10;
const _: () =
    assert!(CHUNK > FRAME_HEADER_LEN + 65536, "a chunk holds at least one frame of the largest page");

#[cfg(test)]
mod tests {
    use super::*;

    fn job(from: u64, to: u64) -> SegmentJob {
        let generation = Generation::new(1);
        SegmentJob { generation, index: WalIndex::ZERO, incarnation: 0, from, to, exact: false, base: 0 }
    }

    /// A real WAL of one small and one 6 MB transaction.
    fn sample() -> (Vec<u8>, WalBytes, Header) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.db");
        let db = rusqlite::Connection::open(&path).unwrap();
        db.execute_batch(
            "PRAGMA journal_mode=WAL; PRAGMA wal_autocheckpoint=0; CREATE TABLE t(a);
             INSERT INTO t VALUES(randomblob(100));
             INSERT INTO t VALUES(randomblob(6000000));
             INSERT INTO t VALUES(1);",
        )
        .unwrap();
        let bytes = std::fs::read(dir.path().join("a.db-wal")).unwrap();
        let wal = WalBytes::Held { from: 0, bytes: Bytes::from(bytes.clone()) };
        let header = wal.header().unwrap();
        (bytes, wal, header)
    }

    #[test]
    fn segments_concatenate_to_the_wal_and_one_ends_inside_a_transaction_larger_than_a_segment() {
        let (bytes, wal, header) = sample();
        let (mut at, mut all, mut ends) = (0, Vec::new(), Vec::new());
        while at < bytes.len() as u64 {
            let segment = encode(&job(at, bytes.len() as u64), &wal, &header, None).unwrap();
            all.extend(lz4::decode(&segment.object, 1 << 30).unwrap());
            assert!(segment.plain <= SEGMENT_BYTES + HEADER_LEN as u64);
            ends.push(segment.to);
            at = segment.to;
        }
        assert_eq!(all, bytes);
        assert_eq!(
            ends.len(),
            3,
            "the small ones, a cut of the large one, and its end with what follows: {ends:?}"
        );
    }

    #[test]
    fn a_flipped_byte_in_the_wal_is_refused_with_its_frame() {
        let (mut bytes, _, header) = sample();
        bytes[5000] ^= 1;
        let len = bytes.len() as u64;
        let wal = WalBytes::Held { from: 0, bytes: Bytes::from(bytes) };
        let error = encode(&job(0, len), &wal, &header, None).unwrap_err();
        assert!(error.to_string().starts_with("frame at 0x1038: checksum"), "{error}");
    }

    #[test]
    fn the_first_segment_of_an_index_says_where_the_one_before_ended() {
        let (bytes, wal, header) = sample();
        let end = header.page_size.offset_of(2);
        let last = encode(&SegmentJob { exact: true, ..job(0, end) }, &wal, &header, None).unwrap();
        let next = SegmentJob { index: WalIndex::new(1).unwrap(), ..job(0, end) };
        let first = encode(&next, &wal, &header, Some(last.trail)).unwrap();
        let chain = wal.chain_at(&header, end).unwrap();
        let note = Note::Follows { end, checksum: chain.checksum };
        let at = first.object.windows(crate::format::note::LEN).position(|w| w == note.encode());
        assert!(at.is_some_and(|at| at < 16), "in a skippable frame in front");
        assert_eq!(lz4::decode(&first.object, 1 << 30).unwrap(), bytes[..end as usize]);
        let plain = encode(&next, &wal, &header, None).unwrap();
        assert!(plain.object.len() < first.object.len(), "no word about what is not known");
    }

    #[test]
    fn a_split_index_is_a_wal_of_its_own_whether_or_not_the_chain_was_remembered() {
        let (bytes, wal, header) = sample();
        let base = header.page_size.offset_of(3);
        let middle = header.page_size.offset_of(9);
        let end = bytes.len() as u64;
        let first = SegmentJob { base, exact: true, ..job(base, middle) };
        let second = SegmentJob { base, exact: true, ..job(middle, end) };
        let a = encode(&first, &wal, &header, None).unwrap();
        let b = encode(&second, &wal, &header, Some(a.trail)).unwrap();
        assert_eq!(encode(&second, &wal, &header, None).unwrap().object, b.object);
        let mut all = lz4::decode(&a.object, 1 << 30).unwrap();
        all.extend(lz4::decode(&b.object, 1 << 30).unwrap());
        let split = Header::parse(&all).unwrap();
        assert_ne!(split.salt, header.salt);
        let mut chain = Chain::start(&split);
        for (n, frame) in all[HEADER_LEN..].chunks(chain.frame_len()).enumerate() {
            chain.verify(frame).unwrap();
            let original = &bytes[header.page_size.offset_of(3 + n as u64) as usize..][..frame.len()];
            assert_eq!((&frame[..8], &frame[24..]), (&original[..8], &original[24..]), "frame {n}");
        }
    }
}
