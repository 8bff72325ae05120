//! What the services say when they refuse, word for word as they document it. Values only.

/// Whose words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Service {
    S3,
    Gcs,
    Abs,
}

/// An answer that no server gave.
#[derive(Debug, Clone)]
pub struct Answer {
    status: u16,
    headers: Vec<(&'static str, String)>,
    body: String,
}

impl Answer {
    pub fn new(status: u16, body: impl Into<String>) -> Self {
        Self { status, headers: Vec::new(), body: body.into() }
    }

    #[must_use]
    pub fn header(mut self, name: &'static str, value: impl ToString) -> Self {
        self.headers.push((name, value.to_string()));
        self
    }

    /// Too many requests: `SlowDown`, `rateLimitExceeded`, `ServerBusy`.
    pub fn throttled(service: Service) -> Self {
        match service {
            Service::S3 => Self::xml(503, "SlowDown", "Please reduce your request rate."),
            // The XML API has no code of its own for it.
            Service::Gcs => Self::new(429, ""),
            Service::Abs => Self::xml(503, "ServerBusy", "The server is busy."),
        }
    }

    /// Credentials that were good for an hour.
    pub fn expired(service: Service) -> Self {
        match service {
            Service::S3 => Self::xml(400, "ExpiredToken", "The provided token has expired."),
            Service::Gcs => Self::xml(401, "AuthenticationRequired", "Authentication required."),
            Service::Abs => {
                Self::xml(403, "AuthenticationFailed", "Signature not valid in the specified time frame")
            }
        }
    }

    /// Credentials nobody knows.
    pub fn denied(service: Service) -> Self {
        match service {
            Service::S3 => Self::xml(
                403,
                "InvalidAccessKeyId",
                "The AWS Access Key Id you provided does not exist in our records.",
            ),
            Service::Gcs => Self::xml(401, "AuthenticationRequired", "Authentication required."),
            Service::Abs => {
                Self::xml(403, "AuthenticationFailed", "Server failed to authenticate the request.")
            }
        }
    }

    /// A bucket that is not there, or not yet.
    pub fn no_bucket(service: Service) -> Self {
        match service {
            Service::S3 | Service::Gcs => {
                Self::xml(404, "NoSuchBucket", "The specified bucket does not exist.")
            }
            Service::Abs => Self::xml(404, "ContainerNotFound", "The specified container does not exist."),
        }
    }

    /// Credentials that may read, and were used to write.
    pub fn read_only(service: Service) -> Self {
        match service {
            Service::S3 | Service::Gcs => Self::xml(403, "AccessDenied", "Access Denied."),
            Service::Abs => Self::xml(
                403,
                "AuthorizationPermissionMismatch",
                "This request is not authorized to perform this operation using this permission.",
            ),
        }
    }

    fn xml(status: u16, code: &str, message: &str) -> Self {
        let body = format!(
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>{code}</Code><Message>{message}</Message></Error>"
        );
        Self::new(status, body).header("content-type", "application/xml").header("x-ms-error-code", code)
    }

    /// As it goes out in answer to `request`, a first line.
    pub(super) fn bytes(&self, request: &str) -> Vec<u8> {
        let mut text = format!("HTTP/1.1 {} X\r\ncontent-length: {}\r\n", self.status, self.body.len());
        for (name, value) in &self.headers {
            text.push_str(&format!("{name}: {value}\r\n"));
        }
        text.push_str("\r\n");
        if !request.starts_with("HEAD ") {
            text.push_str(&self.body);
        }
        text.into_bytes()
    }
}
