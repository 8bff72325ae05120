//! Whole files: there and back, broken and cut.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use proptest::prelude::*;

use bytes::Bytes;

use super::*;
use crate::format::wal::{PageSize, Salt};

/// A page that compresses, or one that does not.
fn image(size: usize, seed: u64) -> Vec<u8> {
    let mut x = seed;
    let mut byte = || {
        x = x.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (x >> 40) as u8
    };
    match seed % 3 {
        0 => vec![seed as u8; size],
        1 => (0..size).map(|i| if i % 9 < 7 { i as u8 } else { byte() }).collect(),
        _ => std::iter::repeat_with(byte).take(size).collect(),
    }
}

#[derive(Debug, Clone)]
struct File {
    header: Header,
    encoding: PageEncoding,
    pages: BTreeMap<u32, Vec<u8>>,
}

impl File {
    fn stored(&self) -> Vec<u8> {
        encode(self.header, self.encoding, self.pages.iter().map(|(n, p)| (*n, &p[..]))).unwrap()
    }
}

fn header(page_size: u32, min: u64, commit: u32, rolling: bool) -> Header {
    let min = Txid::new(min).unwrap();
    let rolling = rolling.then(|| match min {
        Txid::ONE => Rolling::EMPTY,
        _ => Rolling::from_stored(1 << 63 | 5).unwrap(),
    });
    Header {
        page_size: PageSize::new(page_size).unwrap(),
        commit,
        min,
        max: min,
        timestamp: 1_795_246_829_085,
        wal: WalPos { offset: 32, size: 536, salt: Salt([1; 8]) },
        node: 0,
        rolling,
    }
}

/// Of up to `most` pages whose size is 2 to one of `powers`.
fn any_file(most: u32, powers: RangeInclusive<u32>) -> impl Strategy<Value = File> {
    let numbers = proptest::collection::btree_map(1..=most, any::<u64>(), 0..=most as usize);
    (powers, 1u64..3, 1..=most, numbers, any::<bool>(), any::<bool>()).prop_map(
        |(power, min, commit, seeds, frame, rolling)| {
            let size = 1 << power;
            let page = |n: u32| image(size, seeds.get(&n).copied().unwrap_or(u64::from(n) * 3));
            let pages = match min {
                1 => (1..=commit).map(|n| (n, page(n))).collect(),
                _ => seeds.keys().filter(|n| **n <= commit).map(|n| (*n, page(*n))).collect(),
            };
            let encoding = if frame { PageEncoding::Frame } else { PageEncoding::Block };
            File { header: header(size as u32, min, commit, rolling), encoding, pages }
        },
    )
}

fn read(stored: &[u8]) -> Result<(Summary, BTreeMap<u32, Vec<u8>>), Error> {
    let mut pages = BTreeMap::new();
    let summary = decode(Bytes::copy_from_slice(stored), |n, image| {
        pages.insert(n, image.to_vec());
    })?;
    Ok((summary, pages))
}

fn read_in_pieces(
    stored: &[u8],
    piece: usize,
    run: usize,
) -> Result<(Summary, BTreeMap<u32, Vec<u8>>), Error> {
    let mut decoder = Decoder::new(run);
    let (mut pages, mut summary) = (BTreeMap::new(), None);
    for part in stored.chunks(piece) {
        decoder.feed(Bytes::copy_from_slice(part));
        loop {
            match decoder.next()? {
                Event::More => break,
                Event::Header(_) => {}
                Event::Page { number, image } => assert!(pages.insert(number, image.to_vec()).is_none()),
                Event::End(end) => summary = Some(end),
            }
        }
    }
    decoder.finish()?;
    Ok((summary.expect("a decoder finishes after the end"), pages))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn decode_is_the_inverse_of_encode(file in any_file(40, 9..=16), piece in 1usize..5000, run in 0usize..20_000) {
        let stored = file.stored();
        let (summary, pages) = read(&stored).unwrap();
        prop_assert_eq!(&pages, &file.pages);
        prop_assert_eq!(summary.header, file.header);
        prop_assert_eq!((summary.pages, summary.size), (pages.len() as u64, stored.len() as u64));
        prop_assert_eq!(read_in_pieces(&stored, piece, run), Ok((summary, pages)));
    }

    #[test]
    fn a_file_cut_anywhere_is_refused(file in any_file(4, 9..=12), piece in 1usize..600) {
        let stored = file.stored();
        for end in 0..stored.len() {
            let e = read_in_pieces(&stored[..end], piece, 2048).unwrap_err();
            prop_assert!(matches!(e, Error::Truncated { stored, .. } if stored == end as u64) || end == 0, "{end}: {e}");
        }
    }

    #[test]
    fn any_bytes_are_a_file_or_not_but_never_a_panic(
        file in any_file(4, 9..=12), tail in proptest::collection::vec(any::<u8>(), 0..200), keep in any::<proptest::sample::Index>(),
    ) {
        let mut stored = file.stored();
        stored.truncate(keep.index(stored.len()));
        stored.extend(tail);
        prop_assert!(read(&stored).is_err());
    }

    #[test]
    fn pages_compressed_elsewhere_make_the_same_file(file in any_file(10, 9..=16)) {
        let mut out = Vec::new();
        let mut encoder = Encoder::new(file.header, file.encoding, &mut out).unwrap();
        for (number, image) in &file.pages {
            let mut payload = Vec::new();
            compress_page(file.encoding, image, &mut payload);
            encoder.push_compressed(*number, image, &payload, &mut out).unwrap();
        }
        prop_assert_eq!(encoder.written(), out.len() as u64);
        let trailer = encoder.finish(None, &mut out).unwrap();
        prop_assert_eq!(&out, &file.stored());
        prop_assert_eq!((trailer.size, trailer.pages), (out.len() as u64, file.pages.len() as u64));
    }
}

/// A file made by the letter of the format, of pages in either encoding.
fn by_the_letter(header: Header, pages: &[(u32, Vec<u8>, PageEncoding)]) -> Vec<u8> {
    let mut out = header.encode().to_vec();
    let (mut plain, mut index) = (out.clone(), Vec::new());
    let varint = |mut value: u64, out: &mut Vec<u8>| {
        while value > 127 {
            out.push((value % 128) as u8 | 128);
            value /= 128;
        }
        out.push(value as u8);
    };
    for (number, image, encoding) in pages {
        let (at, mut payload) = (out.len(), Vec::new());
        compress_page(*encoding, image, &mut payload);
        let mut head = number.to_be_bytes().to_vec();
        match encoding {
            PageEncoding::Frame => head.extend([0, 0]),
            PageEncoding::Block => {
                head.extend([0, 1]);
                head.extend((payload.len() as u32).to_be_bytes());
            }
        }
        plain.extend([&head[..], image].concat());
        out.extend([head, payload].concat());
        for value in [u64::from(*number), at as u64, (out.len() - at) as u64] {
            varint(value, &mut index);
        }
    }
    index.push(0);
    let mut end = vec![0; 6];
    end.extend(&index);
    end.extend((index.len() as u64).to_be_bytes());
    end.extend([0; 8]);
    plain.extend(&end);
    out.extend(end);
    out.extend(Sum::of(&plain).stored().to_be_bytes());
    out
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_file_may_mix_its_encodings(
        file in any_file(20, 9..=13), frames in proptest::collection::vec(any::<bool>(), 20), piece in 1usize..5000,
    ) {
        let header = Header { rolling: None, ..file.header };
        let encoding = |n: usize| if frames[n % 20] { PageEncoding::Frame } else { PageEncoding::Block };
        let pages: Vec<_> =
            file.pages.iter().enumerate().map(|(n, (number, page))| (*number, page.clone(), encoding(n))).collect();
        let stored = by_the_letter(header, &pages);
        let (summary, read) = read_in_pieces(&stored, piece, 3000).unwrap();
        prop_assert_eq!((summary.header, &read), (header, &file.pages));
        // Of one encoding it is what the encoder writes.
        let of_one: Vec<_> = pages.into_iter().map(|(number, page, _)| (number, page, file.encoding)).collect();
        let ours = File { header, ..file }.stored();
        prop_assert_eq!(by_the_letter(header, &of_one), ours);
    }
}

fn small(min: u64, encoding: PageEncoding, rolling: bool) -> File {
    let pages = (1..=3).map(|n| (n, image(512, u64::from(n)))).collect();
    File { header: header(512, min, 3, rolling), encoding, pages }
}

/// Reads the file with each of its bits flipped: how many there are, and how many of them change nothing.
fn flipped(file: &File) -> (usize, usize) {
    let stored = file.stored();
    let harmless = |bit: &usize| {
        let mut broken = stored.clone();
        broken[bit / 8] ^= 1 << (bit % 8);
        let Ok((summary, pages)) = read(&broken) else { return false };
        assert_eq!((summary.header, &pages), (file.header, &file.pages), "bit {bit}");
        true
    };
    (stored.len() * 8, (0..stored.len() * 8).filter(harmless).count())
}

#[test]
fn every_flipped_bit_is_refused_or_changes_nothing() {
    let (mut bits, mut harmless) = (0, 0);
    for encoding in [PageEncoding::Block, PageEncoding::Frame] {
        for (min, rolling) in [(1, false), (1, true), (2, false), (2, true)] {
            let of_file = flipped(&small(min, encoding, rolling));
            (bits, harmless) = (bits + of_file.0, harmless + of_file.1);
        }
    }
    // A page of equal bytes is the same wherever its matches point to; nothing else is one bit away.
    assert!(harmless * 200 < bits, "{harmless} of {bits}");
}

#[test]
fn every_flipped_bit_of_a_file_with_a_long_index_is_refused_or_changes_nothing() {
    // Numbers and offsets of the index take one byte or two. Noise has no matches that could point elsewhere; a block's
    // last token has room for the length of one, which nobody reads.
    let page = |n: u32| (n * 9, image(512, 5).iter().map(|b| b ^ n as u8).collect());
    for (encoding, unread) in [(PageEncoding::Block, 4 * 20), (PageEncoding::Frame, 0)] {
        let header = header(512, 2, 300, false);
        let (bits, harmless) = flipped(&File { header, encoding, pages: (1..=20).map(page).collect() });
        assert_eq!(harmless, unread, "of {bits}");
    }
}

#[test]
fn a_long_index_comes_in_pieces() {
    let pages = 40_000;
    let mut out = Vec::new();
    let mut encoder = Encoder::new(header(512, 1, pages, false), PageEncoding::Block, &mut out).unwrap();
    for number in 1..=pages {
        encoder.push(number, &[number as u8; 512], &mut out).unwrap();
    }
    let (mut tail, mut pieces) = (encoder.tail(None).unwrap(), 0);
    let trailer = loop {
        let before = out.len();
        let trailer = tail.write(&mut out);
        assert!(out.len() - before < Tail::PIECE + 100);
        pieces += 1;
        if let Some(trailer) = trailer {
            break trailer;
        }
    };
    assert!(pieces > 4, "{pieces}");
    let (summary, read) = read(&out).unwrap();
    assert_eq!((summary.checksum, summary.size), (trailer.checksum, out.len() as u64));
    assert!(read.len() == pages as usize && read.iter().all(|(n, p)| *p == [*n as u8; 512]));
}

#[test]
fn what_is_wrong_with_a_page_is_said_with_its_place() {
    let page = |number: u32, seed| (number, image(512, seed));
    let stored = |min, commit, pages: &[(u32, Vec<u8>)]| {
        // As a careless writer would: the encoder refuses all of these.
        let mut file = header(512, min, commit, false).encode().to_vec();
        for (number, image) in pages {
            let mut payload = Vec::new();
            compress_page(PageEncoding::Block, image, &mut payload);
            file.extend(number.to_be_bytes());
            file.extend([0, 1]);
            file.extend((payload.len() as u32).to_be_bytes());
            file.extend(payload);
        }
        file.extend([0; 6]);
        file
    };
    let said = |bytes: Vec<u8>| read(&bytes).unwrap_err().to_string();
    let lock = lock_page(PageSize::new(512).unwrap());
    assert!(
        said(stored(2, 9, &[page(3, 0), page(2, 0)]))
            .ends_with("stands after page 3, expected ascending numbers")
    );
    assert!(said(stored(2, 9, &[page(3, 0), page(3, 0)])).starts_with("page 3 at byte "));
    assert!(said(stored(1, 9, &[page(1, 0), page(3, 0)])).contains("expected page 2: a file that starts at"));
    assert!(said(stored(1, 9, &[page(1, 0)])).ends_with("after page 1, expected all 9 of the database"));
    assert_eq!(said(stored(2, 9, &[page(10, 0)])), "page 10 at byte 100: the database has 9 pages");
    assert!(
        said(stored(2, lock + 9, &[page(lock, 0)])).ends_with("is the lock page, which never has content")
    );
    assert!(
        said(stored(2, 9, &[(4, vec![1; 511])]))
            .ends_with("page 4 at byte 100: expands to 511 bytes, expected 512")
    );
    assert!(
        said(stored(2, 9, &[(4, vec![1; 513])]))
            .contains("page 4 at byte 100: the LZ4 block does not expand to 512")
    );
    let mut flags = stored(2, 9, &[page(4, 0)]);
    flags[105] = 2;
    assert_eq!(said(flags), "page 4 at byte 100: flags 0x0002, expected 0 or 1");
    let mut size = stored(2, 9, &[page(4, 0)]);
    size[106] = 0xff;
    assert!(said(size).contains("stored bytes, expected at most 530"));
}

#[test]
fn checksums_and_trailing_bytes_are_said_with_their_place() {
    let stored = small(1, PageEncoding::Block, true).stored();
    let len = stored.len();
    let broken = |at: usize| {
        let mut broken = stored.clone();
        broken[at] ^= 1;
        read(&broken).unwrap_err().to_string()
    };
    assert!(broken(len - 1).starts_with(&format!("file checksum at byte {}: ", len - 8)));
    assert!(broken(85).starts_with("file checksum at byte "), "reserved bytes are covered");
    let mut long = stored.clone();
    long.push(0);
    assert_eq!(read(&long).unwrap_err(), Error::Trailing { at: len as u64 });
    assert_eq!(read(&[]).unwrap_err(), Error::Empty);
    // A database's checksum that is wrong under a file's that is right.
    let mut other = stored[..len - 8].to_vec();
    other[len - 9] ^= 1;
    // Pages count as they are, not as they are stored: the sum is found by asking for it.
    other.extend([0; 8]);
    let Err(Error::Checksum { what: "file", found, .. }) = read(&other) else { panic!() };
    other.truncate(len - 8);
    other.extend(found.to_be_bytes());
    let e = read(&other).unwrap_err();
    assert!(matches!(e, Error::Checksum { what: "database", at, .. } if at == len as u64 - 16), "{e}");
}

#[test]
fn the_encoder_refuses_what_no_reader_takes() {
    let refused = |min, pages: &[u32]| {
        let mut out = Vec::new();
        let mut encoder = Encoder::new(header(512, min, 9, false), PageEncoding::Block, &mut out).unwrap();
        for &n in pages {
            let before = out.len();
            if let Err(e) = encoder.push(n, &[0; 512], &mut out) {
                assert_eq!(out.len(), before);
                return e.to_string();
            }
        }
        encoder.finish(None, &mut out).unwrap_err().to_string()
    };
    assert_eq!(refused(2, &[0]), "page 0: no page has this number");
    assert_eq!(refused(2, &[5, 4]), "page 4: stands after page 5, expected ascending numbers");
    assert_eq!(refused(2, &[10]), "page 10: the database has 9 pages");
    assert_eq!(
        refused(1, &[1, 3]),
        "page 3: expected page 2: a file that starts at transaction 1 holds every page"
    );
    assert_eq!(refused(1, &[1, 2]), "the pages end after page 2, expected all 9 of the database");
    let mut out = Vec::new();
    let lock = lock_page(PageSize::new(65536).unwrap());
    let mut encoder = Encoder::new(header(65536, 2, lock + 1, false), PageEncoding::Block, &mut out).unwrap();
    let e = encoder.push(lock, &[0; 65536], &mut out).unwrap_err();
    assert_eq!(e, Refused::Page { number: lock, fault: PageFault::Lock });
    let e = encoder.push(1, &[0; 512], &mut out).unwrap_err();
    assert_eq!(e, Refused::Page { number: 1, fault: PageFault::Length { found: 512, expected: 65536 } });
    assert_eq!(
        Encoder::new(header(512, 1, 0, false), PageEncoding::Block, &mut out).err(),
        Some(Refused::NoPages)
    );
}

#[test]
fn a_full_file_leaves_out_the_lock_page() {
    let lock = lock_page(PageSize::new(65536).unwrap());
    for commit in [lock - 1, lock, lock + 1] {
        let header = header(65536, 1, commit, false);
        let (mut out, image) = (Vec::new(), vec![0; 65536]);
        let mut encoder = Encoder::new(header, PageEncoding::Block, &mut out).unwrap();
        let mut payload = Vec::new();
        compress_page(PageEncoding::Block, &image, &mut payload);
        for number in (1..=commit).filter(|n| *n != lock) {
            encoder.push_compressed(number, &image, &payload, &mut out).unwrap();
        }
        encoder.finish(None, &mut out).unwrap();
        let mut last = 0;
        let summary = decode(out.into(), |n, _| last = n).unwrap();
        assert_eq!(summary.header.commit, commit);
        assert_eq!(last, if commit == lock { lock - 1 } else { commit });
    }
}
