//! The files of `init`: the project's own examples, which the tests run, with another destination in them. Text only.
//!
//! Each change names the text it replaces, and a file that does not have it is an error: the examples and this list
//! cannot part unnoticed.

use super::place::{Place, Secret};

/// What is to be written, by its path below the directory.
pub(super) struct Files(pub Vec<(&'static str, String)>);

/// How the examples are changed beside their destination.
pub(super) struct Choice<'a> {
    /// The container image with the app and Holdfast in it.
    pub image: &'a str,
    /// The image with Holdfast alone.
    pub holdfast_image: &'a str,
    /// The image with the app alone.
    pub app_image: &'a str,
    /// The app's command.
    pub command: &'a [String],
}

/// An example does not have this text any more.
#[derive(Debug)]
pub(super) struct Missing {
    pub file: &'static str,
    pub text: String,
}

impl Files {
    pub(super) fn new(place: &Place, choice: &Choice<'_>) -> Result<Self, Missing> {
        let configuration = configuration(place);
        let workload = |file, text| workload(Example { file, text: String::from(text) }, place, choice);
        let unit = |file, text| unit(Example { file, text: String::from(text) }, place, choice);
        Ok(Self(vec![
            (".env.example", environment(place)),
            ("Dockerfile", dockerfile(choice)?),
            ("docker-compose.yml", compose(place, choice)?),
            ("kubernetes/common.yaml", common(place, &configuration)?),
            ("kubernetes/secret.yaml", secret(place)?),
            ("kubernetes/sidecar.yaml", workload("kubernetes/sidecar.yaml", SIDECAR)?),
            ("kubernetes/single.yaml", workload("kubernetes/single.yaml", SINGLE)?),
            ("kubernetes/statefulset.yaml", workload("kubernetes/statefulset.yaml", STATEFULSET)?),
            ("systemd/app.conf", APP_CONF.to_owned()),
            ("systemd/holdfast.service", unit("systemd/holdfast.service", AGENT_UNIT)?),
            ("systemd/station.service", unit("systemd/station.service", APP_UNIT)?),
            ("litestream.yml", configuration),
        ]))
    }
}

/// One of the project's examples on its way to becoming somebody's file.
struct Example {
    file: &'static str,
    text: String,
}

impl Example {
    /// `old`, wherever it stands, becomes `new`.
    fn swap(mut self, old: &str, new: &str) -> Result<Self, Missing> {
        if !self.text.contains(old) {
            return Err(Missing { file: self.file, text: old.to_owned() });
        }
        self.text = self.text.replace(old, new);
        Ok(self)
    }

    /// Everything from `from` up to, but without, `to` becomes `new`, once.
    fn swap_between(mut self, from: &str, to: &str, new: &str) -> Result<Self, Missing> {
        let missing = |text: &str| Missing { file: self.file, text: text.to_owned() };
        let start = self.text.find(from).ok_or_else(|| missing(from))?;
        let len = self.text[start..].find(to).ok_or_else(|| missing(to))?;
        self.text.replace_range(start..start + len, new);
        Ok(self)
    }
}

// ---- What is written anew

/// `litestream.yml`. No secret is in it.
fn configuration(place: &Place) -> String {
    let keys: String =
        place.keys.iter().map(|(key, value)| format!("        {key}: {}\n", scalar(value))).collect();
    let wanted =
        place.wanted.iter().map(|key| format!("        # A container knows no hosts:\n        # {key}\n"));
    let replica = keys.replacen("        ", "      - ", 1) + &wanted.collect::<String>();
    format!(
        "# Where the database is and where its replica goes. Credentials come from the environment: .env.example.\n\
         #\n\
         #   holdfast config check -config litestream.yml\n\
         #   holdfast doctor -config litestream.yml\n\
         dbs:\n  - path: ${{DATABASE_PATH:-{DATABASE}}}\n    replicas:\n{replica}\
         \x20       # At most this much is lost with the machine; a stop loses nothing.\n        sync-interval: 1s\n\
         \x20       # How far back a restore can go, and how often a copy of everything is made.\n\
         \x20       retention: 168h\n        snapshot-interval: 24h\n"
    )
}

/// `.env.example`: what compose reads as `.env`.
fn environment(place: &Place) -> String {
    let mut text = String::from(
        "# Copy to .env, fill in, and keep it out of Git. docker-compose reads it; for Kubernetes the same secrets lie in\n\
         # kubernetes/secret.yaml, for systemd in /etc/holdfast/credentials.\n",
    );
    for secret in place.secrets {
        text += &match secret.variable {
            Some(variable) => format!("\n# {}\n{variable}=\n", capitalised(secret.what)),
            None => format!("\n# Put into credentials/{}: {}\n", secret.file, secret.what),
        };
    }
    text + "\n# What Station itself needs.\nSTATION_ENCRYPTION_KEY=\nOPENAI_API_KEY=\nANTHROPIC_API_KEY=\n"
}

/// A YAML scalar that reads back as `value`, also after variables are expanded.
fn scalar(value: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-._/:".contains(c);
    let bare = value.chars().all(plain)
        && value.starts_with(|c: char| c.is_ascii_alphabetic() || c == '/')
        && !value.ends_with(':');
    let word =
        matches!(value.to_ascii_lowercase().as_str(), "null" | "yes" | "no" | "on" | "off" | "y" | "n");
    if bare && !word { value.to_owned() } else { json(&value.replace('$', "$$")) }
}

/// A JSON string is a YAML scalar, and an argument of a Dockerfile.
fn json(value: &str) -> String {
    serde_json::Value::from(value).to_string()
}

fn capitalised(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |first| first.to_uppercase().chain(chars).collect())
}

// ---- Containers

fn dockerfile(choice: &Choice<'_>) -> Result<String, Missing> {
    let command: Vec<_> = choice.command.iter().map(|word| json(word)).collect();
    Example { file: "docker/app.Dockerfile", text: APP_IMAGE.into() }
        .swap_between("#   docker build -f", "ARG APP_IMAGE", &format!(
            "#   docker build --pull=false -t {} .\n#\n# The image `{}` is the project's own: docker/Dockerfile there.\n",
            choice.image, choice.holdfast_image
        ))?
        .swap("HOLDFAST_IMAGE=holdfast", &format!("HOLDFAST_IMAGE={}", choice.holdfast_image))?
        .swap("ghcr.io/cloudshipai/station:latest", choice.app_image)?
        .swap("[\"stn\", \"serve\"]", &format!("[{}]", command.join(", ")))
        .map(|e| e.text)
}

fn compose(place: &Place, choice: &Choice<'_>) -> Result<String, Missing> {
    let command: Vec<_> = choice.command.iter().map(|word| json(word)).collect();
    let variables: String = place
        .secrets
        .iter()
        .map(|s| match s.variable {
            Some(name) => format!("      {name}: ${{{name}:-}}\n"),
            None => format!("      {}: /credentials/{}\n", s.file_variable, s.file),
        })
        .collect();
    let files: String = place
        .secrets
        .iter()
        .filter(|s| s.variable.is_none())
        .map(|s| format!("      - ./credentials/{0}:/credentials/{0}:ro\n", s.file))
        .collect();
    let (backup, volume) = match &place.directory {
        Some(dir) => (
            format!(
                "      # Worth something on a disk that does not die with the first.\n      - backup:{}\n",
                dir.display()
            ),
            "\n  backup: {}",
        ),
        None => (String::new(), ""),
    };
    Example { file: "compose/docker-compose.production.yml", text: COMPOSE.into() }
        .swap_between("# Station in production", "# Lose the volume", "# Station with its database kept.\n#\n#   cp .env.example .env                       # and fill it in\n#   docker-compose up -d --build\n#\n")?
        .swap("    image: ${STATION_IMAGE:-station:production}\n", &format!("    build: .\n    image: {}\n", choice.image))?
        .swap("[\"stn\", \"serve\"]", &format!("[{}]", command.join(", ")))?
        .swap_between("      # A name there must be", "      STATION_CONFIG_DIR", &variables)?
        .swap("      - station-data:/data\n", &format!("      - station-data:/data\n      - ./litestream.yml:/config/litestream.yml:ro\n{files}{backup}"))?
        .swap("  station-data: {}", &format!("  station-data: {{}}{volume}"))
        .map(|e| e.text)
}

// ---- Kubernetes

fn common(place: &Place, configuration: &str) -> Result<String, Missing> {
    let indented: String = configuration.lines().map(|line| format!("    {line}\n")).collect();
    let example = Example { file: "kubernetes/common.yaml", text: COMMON.into() }.swap_between(
        "  DATABASE_PATH:",
        "---",
        &format!("  litestream.yml: |\n{indented}"),
    )?;
    let port = match place.port {
        None | Some(443) => return Ok(example.text),
        Some(port) => port,
    };
    example
        .swap(
            "        # An S3 server of your own:\n        # - port: 9000\n",
            &format!("        - port: {port}\n"),
        )
        .map(|e| e.text)
}

fn secret(place: &Place) -> Result<String, Missing> {
    let entry = |s: &Secret| {
        let value = if s.variable.is_some() { " CHANGE-ME" } else { " |\n    CHANGE-ME" };
        format!("  # {}.\n  {}:{value}\n", capitalised(s.what), s.file)
    };
    let example = Example { file: "kubernetes/secret.yaml", text: SECRET.into() };
    match place.secrets {
        [] => {
            example.swap("The two secrets the workloads read", "The secret the workloads read")?.swap_between(
                "apiVersion: v1",
                "apiVersion: v1\nkind: Secret\nmetadata:\n  name: station-app",
                "",
            )
        }
        secrets => {
            let entries: String = secrets.iter().map(entry).collect();
            example.swap_between("  # May list", "---", &entries)
        }
    }
    .map(|e| e.text)
}

fn workload(example: Example, place: &Place, choice: &Choice<'_>) -> Result<String, Missing> {
    let command: Vec<_> = choice.command.iter().map(|word| json(word)).collect();
    let database = format!("            - name: DATABASE_PATH\n              value: {DATABASE}\n");
    let variables: String = place
        .secrets
        .iter()
        .map(|s| {
            format!("            - name: {}\n              value: /credentials/{}\n", s.file_variable, s.file)
        })
        .collect();
    let mut mounts =
        "            - name: config\n              mountPath: /config\n              readOnly: true\n"
            .to_owned();
    let mut volumes =
        "        - name: config\n          configMap:\n            name: station-replica\n".to_owned();
    if !place.secrets.is_empty() {
        mounts += CREDENTIALS_MOUNT;
        volumes += CREDENTIALS_VOLUME;
    }
    if let Some(dir) = &place.directory {
        mounts += &format!(
            "            - name: backup\n              mountPath: {}\n",
            scalar(&dir.to_string_lossy())
        );
        volumes += "        # A claim on another disk than the database's: make it first.\n        - name: backup\n          \
                    persistentVolumeClaim:\n            claimName: station-backup\n";
    }
    let sidecar = example.file.ends_with("sidecar.yaml");
    let example = example
        .swap(S3_VARIABLES, &(database + &variables))?
        .swap(CREDENTIALS_MOUNT, &mounts)?
        .swap(CREDENTIALS_VOLUME, &volumes)?
        .swap("[stn, serve]", &format!("[{}]", command.join(", ")))?;
    let example = if sidecar {
        example
            .swap(&format!("          envFrom:\n{FROM_CONFIG}"), "")?
            .swap("registry.example/holdfast:0.1.0", choice.holdfast_image)?
            .swap("registry.example/station:latest", choice.app_image)?
    } else {
        example.swap(FROM_CONFIG, "")?.swap("registry.example/station-holdfast:0.1.0", choice.image)?
    };
    Ok(example.text)
}

// ---- systemd

fn unit(example: Example, place: &Place, choice: &Choice<'_>) -> Result<String, Missing> {
    let mut lines: String = place
        .secrets
        .iter()
        .map(|s| format!("LoadCredential={0}:/etc/holdfast/credentials/{0}\n", s.file))
        .collect();
    lines.extend(place.secrets.iter().map(|s| format!("Environment={}=%d/{}\n", s.file_variable, s.file)));
    let mut install = String::from("install -D -m 644 litestream.yml /etc/litestream.yml\n");
    if let Some(dir) = &place.directory {
        let dir = quoted(&dir.to_string_lossy());
        lines += &format!("ReadWritePaths={dir}\n");
        // systemd does not start a unit whose ReadWritePaths= are not there.
        install += &format!("#   install -d -m 750 -o station -g station {dir}\n");
    }
    let note = "# Only root reads the files; the agent sees copies in memory.";
    let app = example.file.ends_with("station.service");
    let example = example
        .swap(ENV_INSTALL, &install)?
        .swap(
            "EnvironmentFile=/etc/holdfast/holdfast.env\n",
            "Environment=DATABASE_PATH=/var/lib/station/station.db\n",
        )?
        .swap_between(
            note,
            "LoadCredential",
            if place.secrets.is_empty() {
                ""
            } else {
                "# Only root reads the files; the agent sees copies in memory.\n"
            },
        )?
        .swap(S3_CREDENTIALS, &lines)?;
    if !app {
        return Ok(example.text);
    }
    let line = choice.command.iter().map(|word| quoted(word)).collect::<Vec<_>>().join(" ");
    Ok(match choice.command {
        [a, b] if a == "stn" && b == "serve" => example.text,
        // The supervisor looks for it on `PATH`.
        _ => example.swap("-- /usr/local/bin/stn serve", &format!("-- {line}"))?.text,
    })
}

/// An argument as `ExecStart=` takes it (systemd.syntax, "Quoting"; `%` and `$` are specifiers there).
fn quoted(word: &str) -> String {
    let word = word.replace('%', "%%").replace('$', "$$");
    let plain = |c: char| c.is_ascii_alphanumeric() || "-._/:=,@+%$".contains(c);
    if !word.is_empty() && word.chars().all(plain) { word } else { json(&word) }
}

/// Where the database is in a container.
const DATABASE: &str = "/data/station.db";

const APP_IMAGE: &str = include_str!("../../../../docker/app.Dockerfile");
const COMPOSE: &str = include_str!("../../../../compose/docker-compose.production.yml");
const COMMON: &str = include_str!("../../../../kubernetes/common.yaml");
const SECRET: &str = include_str!("../../../../kubernetes/secret.yaml");
const SIDECAR: &str = include_str!("../../../../kubernetes/sidecar.yaml");
const SINGLE: &str = include_str!("../../../../kubernetes/single.yaml");
const STATEFULSET: &str = include_str!("../../../../kubernetes/statefulset.yaml");
const APP_CONF: &str = include_str!("../../../../systemd/app.conf");
const AGENT_UNIT: &str = include_str!("../../../../systemd/holdfast.service");
const APP_UNIT: &str = include_str!("../../../../systemd/station.service");

const S3_VARIABLES: &str = "            - name: LITESTREAM_S3_ACCESS_KEY_ID_FILE
              value: /credentials/access-key-id
            - name: LITESTREAM_S3_SECRET_ACCESS_KEY_FILE
              value: /credentials/secret-access-key
";
const FROM_CONFIG: &str = "            - configMapRef:
                name: station-replica
";
const CREDENTIALS_MOUNT: &str = "            - name: credentials
              mountPath: /credentials
              readOnly: true
";
const CREDENTIALS_VOLUME: &str = "        - name: credentials
          secret:
            secretName: station-replica
            defaultMode: 0440
";
const ENV_INSTALL: &str = "install -D -m 640 -g station systemd/holdfast.env /etc/holdfast/holdfast.env      # say where the replica is\n";
const S3_CREDENTIALS: &str = "LoadCredential=access-key-id:/etc/holdfast/credentials/access-key-id
LoadCredential=secret-access-key:/etc/holdfast/credentials/secret-access-key
Environment=LITESTREAM_S3_ACCESS_KEY_ID_FILE=%d/access-key-id
Environment=LITESTREAM_S3_SECRET_ACCESS_KEY_FILE=%d/secret-access-key
";

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;

    use holdfast_config::{Destination, Env};

    use super::*;

    const URLS: [&str; 8] = [
        "s3://backups/production/station-db?region=eu-central-1",
        "s3://backups?endpoint=http://minio.storage.svc:9000",
        "s3://b/p?region=r&part-size=16MiB&concurrency=3&storage-class=STANDARD_IA&sign-payload=false&sse-kms-key-id=k",
        "gs://backups/station-db",
        "abs://account@container/station-db",
        "sftp://station@backup.example:2222/srv/station-db",
        "file:///backup/station-db",
        "file:///backup/of $HOME/a: b",
    ];

    fn files(url: &str, command: &[&str]) -> Vec<(&'static str, String)> {
        let replica =
            holdfast_config::replica_from_url(url, &Env::from_pairs([("HOME", "/home/me")])).unwrap();
        let command: Vec<_> = command.iter().map(|w| String::from(*w)).collect();
        let choice = Choice {
            image: "my/station:1",
            holdfast_image: "my/holdfast:3",
            app_image: "my/app:2",
            command: &command,
        };
        Files::new(&Place::of(&replica.destination), &choice).unwrap_or_else(|m| panic!("{url}: {m:?}")).0
    }

    #[test]
    fn the_configuration_leads_to_the_url_it_was_made_from() {
        for url in URLS {
            let env = Env::from_pairs([("HOME", "/home/me")]);
            let all = files(url, &["stn", "serve"]);
            let text = &all.iter().find(|(name, _)| *name == "litestream.yml").unwrap().1;
            let config = holdfast_config::parse(text, Path::new("litestream.yml"), &env, true).unwrap();
            assert_eq!(config.warnings, [], "{url}:\n{text}");
            let there = &config.databases[0].replicas[0].destination;
            let named = holdfast_config::replica_from_url(url, &env).unwrap().destination;
            assert!(there.is_at(&named), "{there:?} {named:?}\n{text}");
            if let (Destination::S3(there), Destination::S3(named)) = (there, &named) {
                assert_eq!(there.options, named.options, "{url}:\n{text}");
            }
            assert_eq!(config.databases[0].path, Path::new("/data/station.db"));
        }
    }

    #[test]
    fn nothing_of_the_examples_own_bucket_and_no_bucket_of_another_kind_is_left() {
        for url in URLS {
            for (name, text) in files(url, &["stn", "serve"]) {
                assert!(
                    !text.contains("LITESTREAM_S3_") && !text.contains("station-backups"),
                    "{url}: {name}:\n{text}"
                );
                assert_eq!(
                    text.contains("ACCESS_KEY_ID"),
                    url.starts_with("s3") && USES_KEYS.contains(&name),
                    "{url}: {name}"
                );
            }
        }
    }

    #[test]
    fn the_command_and_the_images_are_in_every_file_that_starts_the_app() {
        let all = files(URLS[0], &["my-app", "--say", "100% \"so\""]);
        let has = |what: &str| -> BTreeSet<_> {
            all.iter().filter(|(_, t)| t.contains(what)).map(|(n, _)| *n).collect()
        };
        let manifests = [
            "Dockerfile",
            "docker-compose.yml",
            "kubernetes/sidecar.yaml",
            "kubernetes/single.yaml",
            "kubernetes/statefulset.yaml",
        ];
        assert_eq!(has(r#"["my-app", "--say", "100% \"so\""]"#), manifests.into());
        assert_eq!(has(r#"-- my-app --say "100%% \"so\"""#), ["systemd/station.service"].into());
        assert_eq!(has("my/app:2"), ["Dockerfile", "kubernetes/sidecar.yaml"].into());
        assert_eq!(has("my/holdfast:3"), ["Dockerfile", "kubernetes/sidecar.yaml"].into());
        assert_eq!(has("registry.example"), [].into());
        let ours =
            ["Dockerfile", "docker-compose.yml", "kubernetes/single.yaml", "kubernetes/statefulset.yaml"];
        assert_eq!(has("my/station:1"), ours.into());
    }

    /// Files that name the variables of an S3 key.
    const USES_KEYS: [&str; 7] = [
        ".env.example",
        "docker-compose.yml",
        "kubernetes/sidecar.yaml",
        "kubernetes/single.yaml",
        "kubernetes/statefulset.yaml",
        "systemd/holdfast.service",
        "systemd/station.service",
    ];
}
