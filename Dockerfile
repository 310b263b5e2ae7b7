# The service `lab` of docker-compose.yml: JupyterLab with the course's locked packages.
FROM python:3.12-slim
RUN useradd --create-home --uid 1000 learner && mkdir /course /progress && chown learner /course /progress
ENV PGV_HOME=/progress
WORKDIR /course
COPY pyproject.toml requirements.lock README.md ./
COPY pgv_helpers pgv_helpers
RUN pip install --no-cache-dir -c requirements.lock -e .
USER learner
CMD ["pgv", "lab", "--ip", "0.0.0.0", "--port", "8888", "--no-browser"]
