# Your app with Holdfast under it: PID 1 brings the database back, starts the app, and proves the last commit is off the
# machine before the container ends.
#
#   docker build -f docker/app.Dockerfile --build-arg APP_IMAGE=my/app -t my/app-holdfast docker
#   docker run -v data:/data -e LITESTREAM_S3_BUCKET=backups my/app-holdfast my-app --its flags
ARG APP_IMAGE=ghcr.io/cloudshipai/station:latest
ARG HOLDFAST_IMAGE=holdfast

FROM ${HOLDFAST_IMAGE} AS holdfast

# hadolint ignore=DL3006
FROM ${APP_IMAGE}
COPY --from=holdfast /usr/local/bin/ /usr/local/bin/
COPY --from=holdfast /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
# A new volume takes its owner from here.
COPY --from=holdfast --chown=1000:1000 /data/ /data/
COPY --from=holdfast --chown=1000:1000 /backup/ /backup/
# What the app keeps beside its database belongs on the volume too.
ENV HOME=/data
USER 1000:1000
WORKDIR /data
VOLUME ["/data"]
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=15s --timeout=3s --start-period=5m --retries=4 CMD ["holdfast-supervisor", "healthcheck"]
ENTRYPOINT ["holdfast-supervisor", "--"]
CMD ["stn", "serve"]
