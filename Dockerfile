# rewardkit with its plugins, for scoring in a container:
#   docker build -t rewardkit .
#   docker run --rm -v "$PWD:/data" rewardkit score rollouts.jsonl --reward reward.yaml --out scored.jsonl
# Training needs torch: docker build --build-arg EXTRAS='[train]' -t rewardkit-train .
# The reward code.tests needs a sandbox; mount the engine's socket or run it on the host.
ARG PYTHON=3.12
FROM python:${PYTHON}-slim
ARG EXTRAS=""
WORKDIR /src
COPY . .
RUN pip install --no-cache-dir -c constraints.txt ".${EXTRAS}" ./sandbox ./plugins/format ./plugins/length ./plugins/math ./plugins/code \
    && rm -rf /src \
    && useradd --create-home rewardkit
USER rewardkit
ENV REWARDKIT_CACHE_DIR=/home/rewardkit/.cache/rewardkit
WORKDIR /data
ENTRYPOINT ["rewardkit"]
CMD ["--help"]
