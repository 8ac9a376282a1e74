# An image with the command `scdae`, on CPUs, with the versions in requirements.lock.
#   docker build -t scdae .
#   docker run --rm -v "$PWD:/data" -w /data scdae impute counts.h5ad restored.h5ad
FROM python:3.12-slim

WORKDIR /scdae
COPY requirements.lock ./
RUN pip install --no-cache-dir --requirement requirements.lock
COPY pyproject.toml README.md LICENSE ./
COPY src ./src
RUN pip install --no-cache-dir --no-deps .

WORKDIR /data
ENTRYPOINT ["scdae"]
CMD ["--help"]
