//! Who asks where nobody configured a key: identities the platform gives a machine or a pod. What gives out tokens and
//! keys is emulated; Azurite checks the tokens (all but their signatures), over TLS as it must, and moto the keys and what
//! their role may do.

use std::path::Path;
use std::time::Duration;

use holdfast_tests::azurite::Azurite;
use holdfast_tests::giver::Giver;
use holdfast_tests::moto::Moto;
use holdfast_tests::process::{self, Finished};
use holdfast_tests::proxy::Proxy;
use holdfast_tests::proxy::tls::Authority;
use holdfast_tests::tool::Tool::Holdfast;
use holdfast_tests::{entra, sts};
use nix::sched::{CloneFlags, unshare};
use serde_json::json;

struct Azure {
    dir: tempfile::TempDir,
    azurite: Azurite,
    entra: Giver,
    /// The sign-in service is only spoken to over TLS.
    sign_in: Proxy,
}

impl Azure {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let authority = Authority::new();
        authority.write(&dir.path().join("ca.pem"));
        let (azurite, entra) = (Azurite::start_with_tokens(&authority.good()), entra::start());
        let sign_in = Proxy::with_tls(&entra.endpoint(), &authority.good());
        Self { dir, azurite, entra, sign_in }
    }

    /// A restore from an empty place: 66 if it may look, and it is said who could not.
    fn restore(&self, env: &[(&str, &str)]) -> Finished {
        let url = format!(
            "abs://{}@{}/nothing?endpoint={}",
            self.azurite.account,
            self.azurite.container,
            self.azurite.endpoint()
        );
        let mut command = Holdfast.command("restore");
        command.env("SSL_CERT_FILE", self.dir.path().join("ca.pem")).env("HOME", self.dir.path());
        command.envs(env.iter().copied()).arg("-o").arg(self.dir.path().join("app.db")).arg(url);
        process::run(&mut command, Duration::from_secs(60))
    }
}

#[track_caller]
fn ended(said: &Finished, code: i32, says: &str) {
    assert_eq!(said.code, code, "{}", said.stderr);
    assert!(said.stderr.contains(says), "{says:?}: {}", said.stderr);
    assert!(!said.stderr.contains("eyJ") && !said.stderr.contains("FQoGZX"), "a token: {}", said.stderr);
}

#[test]
fn a_machine_of_azures_needs_no_key() {
    let scene = Azure::new();
    let endpoint = format!("{}/msi/token", scene.entra.endpoint());
    let machine = [("IDENTITY_ENDPOINT", endpoint.as_str()), ("IDENTITY_HEADER", "s3cr3t")];
    ended(&scene.restore(&machine), 66, "is empty");
    assert_eq!(scene.entra.asked().first().map(String::as_str), Some("machine: the machine, s3cr3t"));
    // An identity that was given to it by name.
    let named = [machine[0], machine[1], ("AZURE_CLIENT_ID", "mine")];
    ended(&scene.restore(&named), 66, "is empty");
    assert_eq!(scene.entra.asked().last().map(String::as_str), Some("machine: mine, s3cr3t"));

    scene.entra.lasting(-60);
    ended(&scene.restore(&machine), 77, "access denied: AuthenticationFailed");
    let away = [("IDENTITY_ENDPOINT", "http://127.0.0.1:9/msi/token")];
    ended(&scene.restore(&away), 69, "no credentials from 127.0.0.1");
}

#[test]
fn a_pod_of_azures_needs_no_key() {
    let scene = Azure::new();
    let token = scene.dir.path().join("token");
    std::fs::write(&token, "from-kubernetes").expect("the pod's token");
    let host = scene.sign_in.endpoint(&scene.entra.endpoint());
    let pod = |token: &Path| {
        scene.restore(&[
            ("AZURE_CLIENT_ID", "app"),
            ("AZURE_TENANT_ID", "00000000-0000-0000-0000-000000000000"),
            ("AZURE_AUTHORITY_HOST", &host),
            ("AZURE_FEDERATED_TOKEN_FILE", &token.to_string_lossy()),
        ])
    };
    ended(&pod(&token), 66, "is empty");
    assert_eq!(scene.entra.asked().first().map(String::as_str), Some("pod: app, from-kubernetes"));
    // Kubernetes writes a new one every hour.
    std::fs::write(&token, "another").expect("the pod's token");
    ended(&pod(&token), 66, "is empty");
    assert_eq!(scene.entra.asked().last().map(String::as_str), Some("pod: app, another"));

    let principal = scene.restore(&[
        ("AZURE_CLIENT_ID", "app"),
        ("AZURE_TENANT_ID", "00000000-0000-0000-0000-000000000000"),
        ("AZURE_AUTHORITY_HOST", &host),
        ("AZURE_CLIENT_SECRET", "pr1ncipal"),
    ]);
    ended(&principal, 66, "is empty");
    assert_eq!(scene.entra.asked().last().map(String::as_str), Some("principal: app, pr1ncipal"));
}

struct Aws {
    dir: tempfile::TempDir,
    moto: Moto,
    sts: Giver,
    /// The token service is only spoken to over TLS.
    tokens: Proxy,
}

impl Aws {
    /// Keys are of a role that may only list the bucket.
    fn new() -> Self {
        Self::giving_out_at("127.0.0.1:0")
    }

    fn giving_out_at(address: &str) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let authority = Authority::new();
        authority.write(&dir.path().join("ca.pem"));
        std::fs::write(dir.path().join("token"), "from-kubernetes").expect("the pod's token");
        let moto = Moto::start();
        let allowed = json!([{ "Effect": "Allow", "Action": "s3:ListBucket", "Resource": "*" }]);
        let sts = sts::start_at(address, moto.session("backup", &allowed));
        let tokens = Proxy::with_tls(&sts.endpoint(), &authority.good());
        Self { dir, moto, sts, tokens }
    }

    fn run(&self, verb: &str, env: &[(&str, &str)]) -> Finished {
        let url = format!(
            "s3://{}/nothing?endpoint={}&force-path-style=true",
            self.moto.bucket, self.moto.endpoint
        );
        let mut command = Holdfast.command(verb);
        command.env("SSL_CERT_FILE", self.dir.path().join("ca.pem")).env("HOME", self.dir.path());
        if verb == "restore" {
            command.arg("-o").arg(self.dir.path().join("app.db"));
        }
        process::run(command.envs(env.iter().copied()).arg(url), Duration::from_secs(60))
    }

    fn token(&self) -> String {
        self.dir.path().join("token").to_string_lossy().into_owned()
    }
}

#[test]
fn a_pod_of_awss_needs_no_key() {
    let aws = Aws::new();
    let (token, role) = (aws.token(), "arn:aws:iam::123456789012:role/backup");
    let tokens = aws.tokens.endpoint(&aws.sts.endpoint());
    let irsa = [
        ("AWS_WEB_IDENTITY_TOKEN_FILE", token.as_str()),
        ("AWS_ROLE_ARN", role),
        ("AWS_ENDPOINT_URL_STS", tokens.as_str()),
    ];
    ended(&aws.run("restore", &irsa), 66, "is empty");
    assert_eq!(aws.sts.asked(), [format!("web identity: {role}, from-kubernetes")], "once is enough");
    // The role may not write, and that is what is said: the keys are fine.
    let said = aws.run("doctor", &irsa);
    assert_eq!(said.code, 77, "{}", said.stdout);
    assert!(said.stdout.contains("allow s3:PutObject on arn:aws:s3:::holdfast/nothing/*"), "{}", said.stdout);

    // EKS's other way.
    let agent = format!("{}/v1/credentials", aws.sts.endpoint());
    let pod = [
        ("AWS_CONTAINER_CREDENTIALS_FULL_URI", agent.as_str()),
        ("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", token.as_str()),
    ];
    ended(&aws.run("restore", &pod), 66, "is empty");
    assert_eq!(aws.sts.asked().last().map(String::as_str), Some("pod: from-kubernetes"));
}

/// The address is the same for every task of ECS, so this one gets a network of its own.
#[test]
fn a_task_of_awss_needs_no_key() {
    if let Err(why) = own_network("169.254.170.2") {
        eprintln!("SKIPPED, nothing was tested: no network of its own: {why}");
        return;
    }
    let aws = Aws::giving_out_at("169.254.170.2:80");
    let task = [("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "/v2/credentials/task")];
    ended(&aws.run("restore", &task), 66, "is empty");
    assert_eq!(aws.sts.asked(), ["task"], "once is enough");
    let gone = [("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "/v2/credentials/another")];
    ended(&aws.run("restore", &gone), 77, "no credentials from 169.254.170.2");
}

/// Takes this thread, and the processes it starts from now on, to a network with nothing but loopback, which has
/// `address`, too.
fn own_network(address: &str) -> Result<(), String> {
    unshare(CloneFlags::CLONE_NEWNET).map_err(|e| e.to_string())?;
    let address = format!("{address}/32");
    for line in [vec!["link", "set", "lo", "up"], vec!["address", "add", &address, "dev", "lo"]] {
        process::run(process::command("ip").args(line), Duration::from_secs(10)).expect_success("ip");
    }
    Ok(())
}

#[test]
fn a_machine_of_awss_needs_no_key_and_asks_again_before_it_expires() {
    let aws = Aws::new();
    let endpoint = aws.sts.endpoint();
    let machine = [("AWS_EC2_METADATA_SERVICE_ENDPOINT", endpoint.as_str())];
    ended(&aws.run("restore", &machine), 66, "is empty");
    assert_eq!(aws.sts.asked(), ["machine"], "once is enough");
    // Keys that are nearly over are asked for again: at the latest for the second look, a second later.
    aws.sts.lasting(60);
    ended(&aws.run("restore", &machine), 66, "is empty");
    assert!(aws.sts.asked().len() >= 3, "{:?}", aws.sts.asked());
    let away = [("AWS_EC2_METADATA_SERVICE_ENDPOINT", "http://127.0.0.1:9")];
    ended(&aws.run("restore", &away), 69, "no credentials from 127.0.0.1");
}
