# JupyterLab on the notebooks:  docker build -t nbkit . && docker run --rm -p 8888:8888 nbkit
# Results stay with:            docker run --rm -p 8888:8888 -v "$PWD/results:/home/nbkit/nbkit/results" nbkit
FROM python:3.11-slim
RUN useradd --create-home nbkit
USER nbkit
WORKDIR /home/nbkit/nbkit
ENV PATH=/home/nbkit/.local/bin:$PATH
COPY --chown=nbkit:nbkit . .
RUN mkdir -p results && binder/postBuild
WORKDIR /home/nbkit/nbkit/notebooks
EXPOSE 8888
CMD ["jupyter", "lab", "--ip=0.0.0.0", "--port=8888", "--no-browser"]
