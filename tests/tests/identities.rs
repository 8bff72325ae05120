//! Who asks where nobody configured a key: identities the platform gives a machine or a pod. Azurite checks the tokens
//! (all but their signatures), over TLS as it must; what gives them out is emulated.

use std::path::Path;
use std::time::Duration;

use holdfast_tests::azurite::Azurite;
use holdfast_tests::entra::Entra;
use holdfast_tests::process::{self, Finished};
use holdfast_tests::proxy::Proxy;
use holdfast_tests::proxy::tls::Authority;
use holdfast_tests::tool::Tool::Holdfast;

struct Scene {
    dir: tempfile::TempDir,
    azurite: Azurite,
    entra: Entra,
    /// The sign-in service is only spoken to over TLS.
    sign_in: Proxy,
}

impl Scene {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let authority = Authority::new();
        authority.write(&dir.path().join("ca.pem"));
        let (azurite, entra) = (Azurite::start_with_tokens(&authority.good()), Entra::start());
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
    assert!(!said.stderr.contains("eyJ"), "a token: {}", said.stderr);
}

#[test]
fn a_machine_of_azures_needs_no_key() {
    let scene = Scene::new();
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
    let scene = Scene::new();
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
