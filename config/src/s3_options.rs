//! How objects are sent to S3 and how they are kept there: the keys of Litestream 0.5 beyond bucket and endpoint
//! (spec/litestream-v05.md §5), from a file or from the query of a URL. Reads the file a key is in; nothing else.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use md5::{Digest, Md5};

use crate::destination::{Encryption, S3Options};
use crate::env::Env;
use crate::reader::parse_switch;
use crate::s3::Flaw;
use crate::secret::Secret;
use crate::secret_file;
use crate::size::parse_size;

/// The keys as they were written, unread.
#[derive(Default)]
pub(crate) struct Written(Vec<(&'static str, Secret<String>)>);

impl Written {
    /// Notes what `key` was set to; a later word wins.
    pub(crate) fn set(&mut self, key: &'static str, value: String) {
        self.0.retain(|(known, _)| *known != key);
        self.0.push((key, Secret::new(value)));
    }

    /// What `key` was set to, which is forgotten.
    pub(crate) fn take(&mut self, key: &str) -> Option<String> {
        let at = self.0.iter().position(|(known, _)| *known == key)?;
        Some(self.0.remove(at).1.expose().clone())
    }

    fn get(&self, key: &str) -> Option<&str> {
        let found = self.0.iter().find(|(known, _)| *known == key)?;
        Some(found.1.expose().as_str()).filter(|text| !text.is_empty())
    }
}

/// The key of the configuration file that a query parameter stands for: `part-size` itself, or 0.5's `partSize`.
pub(crate) fn key_of(parameter: &str) -> Option<&'static str> {
    let same = |key: &&str| {
        let mut letters = parameter.chars().filter(|c| *c != '-').map(|c| c.to_ascii_lowercase());
        key.chars().filter(|c| *c != '-').all(|c| letters.next() == Some(c)) && letters.next().is_none()
    };
    KEYS.iter().copied().find(|key| same(key))
}

/// Reads what was written. Nothing written is what Litestream does by default, but for parts: ours are 8 MiB, two at
/// a time.
pub(crate) fn read(written: &Written, env: &Env) -> Result<S3Options, Flaw> {
    let part_size = match written.get(PART_SIZE) {
        None => None,
        Some(text) => {
            let bytes = parse_size(text)
                .map_err(|e| Flaw::new(PART_SIZE, format!("{text:?} is not a size: {}", e.0), SIZES))?;
            if !(LEAST_PART..=LARGEST_PART).contains(&bytes) {
                return Err(Flaw::new(PART_SIZE, format!("{text:?} is not between 5MiB and 1GiB"), SIZES));
            }
            Some(bytes)
        }
    };
    let concurrency = match written.get(CONCURRENCY) {
        None => None,
        Some(text) => match text.parse() {
            Ok(parts @ 1..=MOST_PARTS) => Some(parts),
            _ => {
                let problem = format!("{text:?} is not a number from 1 to {MOST_PARTS}");
                return Err(Flaw::new(CONCURRENCY, problem, "write how many parts may be on their way"));
            }
        },
    };
    let storage_class = match written.get(STORAGE_CLASS) {
        Some(text) if !text.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_') => {
            let problem = format!("{text:?} is not a storage class");
            return Err(Flaw::new(STORAGE_CLASS, problem, "write something like STANDARD_IA"));
        }
        class => class.map(str::to_owned),
    };
    let sign_payload = match written.get(SIGN_PAYLOAD) {
        None => true,
        Some(text) => parse_switch(text).ok_or_else(|| {
            Flaw::new(SIGN_PAYLOAD, format!("{text:?} is not true or false"), "write true or false")
        })?,
    };
    Ok(S3Options {
        part_size,
        concurrency,
        storage_class,
        sign_payload,
        encryption: encryption(written, env)?,
    })
}

fn encryption(written: &Written, env: &Env) -> Result<Option<Encryption>, Flaw> {
    let kms = written.get(KMS);
    let customer = customer_key(written, env)?;
    match (kms, customer) {
        (Some(_), Some(_)) => {
            Err(Flaw::new(KMS, "a customer's key is given, too", "keep one kind of encryption"))
        }
        (Some(id), None) if id.bytes().all(|b| b.is_ascii_graphic()) => {
            Ok(Some(Encryption::Kms { key_id: id.into() }))
        }
        (Some(_), None) => {
            Err(Flaw::new(KMS, "it is not the id of a key", "write the key's id, alias or ARN"))
        }
        (None, customer) => Ok(customer.map(Encryption::Customer)),
    }
}

/// The customer's key, base64. No message shows it.
fn customer_key(written: &Written, env: &Env) -> Result<Option<Secret<String>>, Flaw> {
    let (field, key) = match (written.get(KEY), written.get(KEY_PATH)) {
        (Some(_), Some(_)) => {
            return Err(Flaw::new(KEY_PATH, format!("`{KEY}` is given too"), "keep one of them"));
        }
        (Some(key), None) => (KEY, key.to_owned()),
        (None, Some(path)) => match secret_file::read(path, env) {
            Ok((_, key)) => (KEY_PATH, key),
            Err(bad) => return Err(Flaw::new(KEY_PATH, bad.problem, bad.fix)),
        },
        (None, None) => {
            let alone = [ALGORITHM, KEY_MD5].into_iter().find(|key| written.get(key).is_some());
            return match alone {
                Some(alone) => {
                    Err(Flaw::new(alone, "there is no key to it", format!("give `{KEY}` or `{KEY_PATH}`")))
                }
                None => Ok(None),
            };
        }
    };
    if let Some(other) = written.get(ALGORITHM).filter(|algorithm| *algorithm != "AES256") {
        return Err(Flaw::new(ALGORITHM, format!("{other:?} is not available"), "write AES256"));
    }
    let key = key.trim();
    let Some(bytes) = STANDARD.decode(key).ok().filter(|bytes| bytes.len() == 32) else {
        return Err(Flaw::new(
            field,
            "it is not 32 bytes in base64",
            "make one with `openssl rand -base64 32`",
        ));
    };
    if let Some(given) = written.get(KEY_MD5)
        && given != STANDARD.encode(Md5::digest(&bytes))
    {
        let fix = "remove it, or give the key it belongs to";
        return Err(Flaw::new(KEY_MD5, "it is not the MD5 of the key in base64", fix));
    }
    Ok(Some(Secret::new(key.into())))
}

/// What this file reads, as the configuration file names it. The names of secrets are among them.
pub(crate) const KEYS: &[&str] =
    &[PART_SIZE, CONCURRENCY, STORAGE_CLASS, SIGN_PAYLOAD, KMS, ALGORITHM, KEY, KEY_PATH, KEY_MD5];

const PART_SIZE: &str = "part-size";
const CONCURRENCY: &str = "concurrency";
const STORAGE_CLASS: &str = "storage-class";
const SIGN_PAYLOAD: &str = "sign-payload";
const KMS: &str = "sse-kms-key-id";
const ALGORITHM: &str = "sse-customer-algorithm";
const KEY: &str = "sse-customer-key";
const KEY_PATH: &str = "sse-customer-key-path";
const KEY_MD5: &str = "sse-customer-key-md5";

const SIZES: &str = "write something like 5MB or 16MiB; each part on its way is held in memory";
/// Five million bytes: Litestream's own documentation writes `5MB` where S3's least part is 5 MiB.
const LEAST_PART: u64 = 5_000_000;
/// S3 takes 5 GiB; nobody wants to hold that in memory.
const LARGEST_PART: u64 = 1 << 30;
const MOST_PARTS: u32 = 64;

#[cfg(test)]
mod tests {
    use super::*;

    fn options(pairs: &[(&'static str, &str)]) -> Result<S3Options, String> {
        let mut written = Written::default();
        for (key, value) in pairs {
            written.set(key, (*value).into());
        }
        read(&written, &Env::from_pairs::<&str, &str>([]))
            .map_err(|flaw| format!("{}: {}", flaw.field, flaw.problem))
    }

    /// `openssl rand -base64 32`, once; the other is `… | base64 -d | openssl md5 -binary | base64` of it.
    const A_KEY: &str = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";
    const ITS_MD5: &str = "0TAOnbx8LkZPRCeVpPyu1g==";

    #[test]
    fn each_key_is_read_or_refused_in_words_that_show_no_secret() {
        let default = S3Options::default();
        assert_eq!(options(&[]), Ok(default.clone()));
        assert_eq!(
            options(&[(PART_SIZE, "16MiB"), (CONCURRENCY, "4"), (STORAGE_CLASS, "STANDARD_IA")]),
            Ok(S3Options {
                part_size: Some(16 << 20),
                concurrency: Some(4),
                storage_class: Some("STANDARD_IA".into()),
                ..default.clone()
            })
        );
        assert_eq!(options(&[(SIGN_PAYLOAD, "false")]).map(|o| o.sign_payload), Ok(false));
        let kms = Encryption::Kms { key_id: "alias/k".into() };
        assert_eq!(options(&[(KMS, "alias/k")]).map(|o| o.encryption), Ok(Some(kms)));
        let customer = Ok(Some(Encryption::Customer(Secret::new(A_KEY.into()))));
        assert_eq!(options(&[(KEY, A_KEY), (ALGORITHM, "AES256")]).map(|o| o.encryption), customer);
        for (pairs, expected) in [
            (&[(PART_SIZE, "4MiB")][..], "part-size: \"4MiB\" is not between 5MiB and 1GiB"),
            (&[(PART_SIZE, "5M")], "part-size: \"5M\" is not a size: unknown unit \"M\""),
            (&[(CONCURRENCY, "0")], "concurrency: \"0\" is not a number from 1 to 64"),
            (&[(STORAGE_CLASS, "glacier?")], "storage-class: \"glacier?\" is not a storage class"),
            (&[(SIGN_PAYLOAD, "maybe")], "sign-payload: \"maybe\" is not true or false"),
            (&[(KMS, "k"), (KEY, A_KEY)], "sse-kms-key-id: a customer's key is given, too"),
            (&[(ALGORITHM, "AES256")], "sse-customer-algorithm: there is no key to it"),
            (&[(KEY, A_KEY), (ALGORITHM, "AES128")], "sse-customer-algorithm: \"AES128\" is not available"),
            (&[(KEY, "hunter2")], "sse-customer-key: it is not 32 bytes in base64"),
            (
                &[(KEY, A_KEY), (KEY_MD5, "hunter2")],
                "sse-customer-key-md5: it is not the MD5 of the key in base64",
            ),
            (&[(KEY, A_KEY), (KEY_PATH, "/x")], "sse-customer-key-path: `sse-customer-key` is given too"),
            (&[(KEY_PATH, "/none")], "sse-customer-key-path: /none: there is no such file"),
        ] {
            assert_eq!(options(pairs), Err(expected.into()));
        }
    }

    #[test]
    fn the_md5_of_a_key_is_compared() {
        let key = STANDARD.decode(A_KEY).unwrap();
        assert_eq!(key, b"0123456789abcdef0123456789abcdef");
        let md5 = STANDARD.encode(Md5::digest(&key));
        assert!(options(&[(KEY, A_KEY), (KEY_MD5, &md5)]).is_ok(), "{md5} {ITS_MD5}");
    }

    #[test]
    fn a_parameter_of_a_url_is_a_key_in_either_writing() {
        for (parameter, key) in [
            ("partSize", Some(PART_SIZE)),
            ("part-size", Some(PART_SIZE)),
            ("sseCustomerKeyMD5", Some(KEY_MD5)),
            ("sseKmsKeyId", Some(KMS)),
            ("sse-customer-key", Some(KEY)),
            ("part", None),
            ("partSizes", None),
        ] {
            assert_eq!(key_of(parameter), key, "{parameter}");
        }
    }
}
