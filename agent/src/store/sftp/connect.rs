//! From a configuration to a session: connects, makes sure of the server, logs in, asks for SFTP. Touches the network,
//! the private key's file and the files of known hosts.
//!
//! ```text
//! TCP ─▶ key exchange ─▶ is the host's key known? ─▶ private key, else password ─▶ subsystem sftp
//! ```
//! Nothing secret is sent before the server has proven that it has the key that is known: Litestream does not look
//! (spec/litestream-v03.md §1.5).

use std::borrow::Cow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use holdfast_config::Sftp;
use russh::client::{self, AuthResult, Handle};
use russh::keys::{
    Algorithm, HashAlg, PrivateKey, PrivateKeyWithHashAlg, PublicKeyOrCertificate, decode_secret_key,
};
use russh::{ChannelMsg, MethodKind, MethodSet, Preferred, cipher};
use tokio::net::TcpStream;

use super::Trouble;
use super::known_hosts::{self, Known, Verdict};
use super::session::{Cut, Session};
use crate::store::{Kind, OpenOptions, StoreError};

/// Opens a session, within the time limits of `options`.
pub(super) async fn connect(sftp: &Sftp, options: &OpenOptions) -> Result<Session, Trouble> {
    let known = known(sftp)?;
    let (tcp, cut) = tokio::time::timeout(options.connect_timeout, dial(sftp)).await.map_err(|_| {
        Trouble::new(Kind::Unavailable, format!("no connection within {:?}", options.connect_timeout))
    })??;
    // What was begun ends with `cut`, whatever it is waiting for.
    match tokio::time::timeout(options.read_timeout, log_in(sftp, known, tcp, cut, options)).await {
        Ok(session) => session,
        Err(_) => Err(Trouble::new(
            Kind::Unavailable,
            format!("the server did not let us in within {:?}", options.read_timeout),
        )),
    }
}

async fn dial(sftp: &Sftp) -> Result<(TcpStream, Cut), Trouble> {
    let unreachable = |e: std::io::Error| Trouble::new(Kind::Unavailable, without_number(&e));
    let tcp = TcpStream::connect((sftp.host.as_str(), sftp.port)).await.map_err(unreachable)?;
    tcp.set_nodelay(true).map_err(unreachable)?;
    let cut = Cut::of(&tcp).map_err(unreachable)?;
    Ok((tcp, cut))
}

async fn log_in(
    sftp: &Sftp,
    known: Known,
    tcp: TcpStream,
    cut: Cut,
    options: &OpenOptions,
) -> Result<Session, Trouble> {
    let config = client::Config {
        preferred: Preferred {
            key: known.prefer(&HOST_KEYS).into(),
            cipher: Cow::Borrowed(&CIPHERS),
            ..Preferred::DEFAULT
        },
        // Longer than we wait for anything: it ends what hangs on a connection that was given up.
        inactivity_timeout: Some(2 * options.read_timeout + super::session::IDLE),
        ..client::Config::default()
    };
    let host = Host { known, name: known_hosts::name(&sftp.host, sftp.port), home: sftp.home.clone() };
    let mut ssh = client::connect_stream(Arc::new(config), tcp, host).await?;
    authenticate(sftp, &mut ssh).await?;
    let mut channel = ssh.channel_open_session().await?;
    channel.request_subsystem(true, "sftp").await?;
    loop {
        match channel.wait().await {
            Some(ChannelMsg::Success) => break,
            Some(ChannelMsg::Failure) => {
                return Err(Trouble::new(Kind::Invalid, "the server has no subsystem sftp; enable it there"));
            }
            Some(_) => {}
            None => return Err(Trouble::new(Kind::Unavailable, "the server closed the connection")),
        }
    }
    Session::start(ssh, channel, cut, options).await
}

/// What is known of the host, from the configuration or from the files of OpenSSH.
fn known(sftp: &Sftp) -> Result<Known, Trouble> {
    if let Some(key) = &sftp.host_key {
        return Known::only(key).ok_or_else(|| {
            Trouble::new(
                Kind::Invalid,
                "`host-key` is not a public key; write it as ssh-keyscan prints it, without the name",
            )
        });
    }
    let own = sftp.home.as_ref().map(|home| home.join(".ssh/known_hosts"));
    let mut files = Vec::new();
    for path in own.into_iter().chain([PathBuf::from("/etc/ssh/ssh_known_hosts")]) {
        match std::fs::read(&path) {
            Ok(text) => files.push((path, String::from_utf8_lossy(&text).into_owned())),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
            Err(e) => return Err(of_file(&path, &e)),
        }
    }
    Ok(Known::in_files(&files, &sftp.host, sftp.port))
}

async fn authenticate(sftp: &Sftp, ssh: &mut Handle<Host>) -> Result<(), Trouble> {
    let mut tried = Vec::new();
    let mut allowed: Option<MethodSet> = None;
    let mut done = |result: AuthResult, what: String| match result {
        AuthResult::Success => true,
        AuthResult::Failure { remaining_methods, .. } => {
            tried.push(what);
            allowed = Some(remaining_methods);
            false
        }
    };
    for (path, key) in private_keys(sftp)? {
        let hash = match key.algorithm() {
            // SHA-1 only where the server asks for it by name.
            Algorithm::Rsa { .. } => ssh.best_supported_rsa_hash().await?.unwrap_or(Some(HashAlg::Sha512)),
            _ => None,
        };
        let what = format!("the key {} ({})", path.display(), known_hosts::fingerprint(key.public_key()));
        let key = PrivateKeyWithHashAlg::new(Arc::new(key), hash);
        if done(ssh.authenticate_publickey(&sftp.user, key).await?, what) {
            return Ok(());
        }
    }
    if let Some(password) = &sftp.password
        && done(ssh.authenticate_password(&sftp.user, password.expose()).await?, "the password".into())
    {
        return Ok(());
    }
    if tried.is_empty() {
        return Err(Trouble::new(
            Kind::Invalid,
            "there is neither key nor password; give `key-path` or `password`",
        ));
    }
    let methods: Vec<_> = allowed.iter().flat_map(|methods| methods.iter()).map(method).collect();
    Err(Trouble::new(
        Kind::Denied,
        format!(
            "the server does not let {} in with {}; it takes {}",
            sftp.user,
            tried.join(" or "),
            if methods.is_empty() { "nothing else".into() } else { methods.join(", ") }
        ),
    ))
}

fn method(method: &MethodKind) -> &'static str {
    method.into()
}

/// The key of the configuration, else, where there is no password either, those a person would use.
fn private_keys(sftp: &Sftp) -> Result<Vec<(PathBuf, PrivateKey)>, Trouble> {
    match (&sftp.key_path, &sftp.password, &sftp.home) {
        (Some(path), _, _) => Ok(vec![(path.clone(), private_key(path)?)]),
        (None, None, Some(home)) => {
            let paths = OWN_KEYS.map(|name| home.join(".ssh").join(name));
            Ok(paths.into_iter().filter_map(|path| private_key(&path).ok().map(|key| (path, key))).collect())
        }
        (None, _, _) => Ok(Vec::new()),
    }
}

fn private_key(path: &Path) -> Result<PrivateKey, Trouble> {
    let text = std::fs::read_to_string(path).map_err(|e| of_file(path, &e))?;
    let unusable = |what: &str| Trouble::new(Kind::Invalid, format!("{}: {what}", path.display()));
    match decode_secret_key(&text, None) {
        Ok(key) if key.is_encrypted() => Err(unusable(PASSPHRASE)),
        Ok(key) => Ok(key),
        Err(russh::keys::Error::KeyIsEncrypted) => Err(unusable(PASSPHRASE)),
        // The reader's own words may quote the key.
        Err(_) => Err(unusable("it is not a private key of type ed25519, ecdsa or rsa")),
    }
}

/// A file that is not there is a mistake in the configuration, not an empty replica.
fn of_file(path: &Path, e: &std::io::Error) -> Trouble {
    let e = StoreError::io("open", path, e);
    let kind = if e.kind == Kind::Denied { Kind::Denied } else { Kind::Invalid };
    Trouble::new(kind, format!("{}: {}", path.display(), e.cause))
}

/// The server as `russh` asks us about it.
pub(super) struct Host {
    known: Known,
    /// As files of known hosts name it.
    name: String,
    home: Option<PathBuf>,
}

impl client::Handler for Host {
    type Error = Trouble;

    async fn check_server_key(&mut self, shown: &PublicKeyOrCertificate) -> Result<bool, Trouble> {
        let key = shown.public_key();
        let Self { name, home, .. } = self;
        let (fingerprint, full) = (known_hosts::fingerprint(&key), known_hosts::in_full(&key));
        let cause = match self.known.judge(&key) {
            Verdict::Trusted => return Ok(true),
            Verdict::Unknown => {
                let file = home.as_ref().map(|home| home.join(".ssh/known_hosts"));
                let file = file.unwrap_or_else(|| "/etc/ssh/ssh_known_hosts".into());
                format!(
                    "{name} shows the key {fingerprint}, which is not known; if it is the server's own, add \
                     `host-key: {full}` to the replica, or the line `{name} {full}` to {}",
                    file.display()
                )
            }
            Verdict::Changed(at) => format!(
                "{name} shows the key {fingerprint}, which is not the one in {at}: somebody may be in between, or it \
                 was set up anew; only if you know that it was, put `{full}` there"
            ),
            Verdict::Revoked(at) => {
                format!(
                    "{name} shows the key {fingerprint}, which is revoked in {at}: give the server another one"
                )
            }
        };
        Err(Trouble::new(Kind::Denied, cause))
    }
}

impl From<russh::Error> for Trouble {
    fn from(e: russh::Error) -> Self {
        use russh::Error as Ssh;
        match e {
            Ssh::NoCommonAlgo { kind, theirs, .. } => {
                let theirs = theirs.join(",");
                Self::new(Kind::Invalid, format!("the server speaks no {kind:?} we do; it has {theirs}"))
            }
            Ssh::Version => Self::new(Kind::Invalid, "the server does not speak SSH"),
            Ssh::WrongServerSig | Ssh::UnknownKey => {
                Self::new(Kind::Denied, "the server could not prove that it has the key it shows")
            }
            Ssh::ChannelOpenFailure(reason) => {
                Self::new(Kind::Unavailable, format!("the server opens no channel: {reason:?}"))
            }
            Ssh::Disconnect | Ssh::HUP | Ssh::SendError | Ssh::RecvError => {
                Self::new(Kind::Unavailable, "the server closed the connection")
            }
            Ssh::IO(e) => Self::new(Kind::Unavailable, without_number(&e)),
            e => Self::new(Kind::Unavailable, e),
        }
    }
}

/// `Connection refused (os error 111)`: the number helps nobody.
fn without_number(e: &std::io::Error) -> String {
    let text = e.to_string();
    text.split(" (os error").next().unwrap_or(&text).to_owned()
}

const PASSPHRASE: &str = "it has a passphrase; make a copy without one (ssh-keygen -p -N '' -f COPY) that only the \
                          agent may read";

/// Tried in this order.
const OWN_KEYS: [&str; 3] = ["id_ed25519", "id_ecdsa", "id_rsa"];

/// OpenSSH's own order without what rests on SHA-1.
const HOST_KEYS: [Algorithm; 6] = {
    use russh::keys::EcdsaCurve::{NistP256, NistP384, NistP521};
    [
        Algorithm::Ed25519,
        Algorithm::Ecdsa { curve: NistP256 },
        Algorithm::Ecdsa { curve: NistP384 },
        Algorithm::Ecdsa { curve: NistP521 },
        Algorithm::Rsa { hash: Some(HashAlg::Sha512) },
        Algorithm::Rsa { hash: Some(HashAlg::Sha256) },
    ]
};

/// What processors have instructions for comes first.
const CIPHERS: [cipher::Name; 3] = [cipher::AES_256_GCM, cipher::CHACHA20_POLY1305, cipher::AES_256_CTR];
