"""A server on this machine that speaks as much of the Hugging Face hub's interface as an upload takes."""

import base64
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Hub(ThreadingHTTPServer):
    """A hub without xet.

    Attributes:
        repositories: Files by repository.
        private: Repositories that were made private.
        asked: Method and path of each request.
    """

    def __init__(self):
        super().__init__(('127.0.0.1', 0), _Handler)
        self.repositories: dict[str, dict[str, bytes]] = {}
        self.private: set[str] = set()
        self.asked: list[str] = []
        self.large: dict[str, bytes] = {}
        self.address = f'http://127.0.0.1:{self.server_port}'
        threading.Thread(target=self.serve_forever, daemon=True).start()


class _Handler(BaseHTTPRequestHandler):
    def do_any(self) -> None:
        hub, path = self.server, self.path.partition('?')[0]
        body = self.rfile.read(int(self.headers.get('Content-Length') or 0))
        hub.asked.append(f'{self.command} {path}')
        if path == '/api/repos/create':
            asked = json.loads(body)
            name = f'{asked["organization"]}/{asked["name"]}'
            hub.repositories.setdefault(name, {})
            if asked.get('private') or asked.get('visibility') == 'private':
                hub.private.add(name)
            return self.answer({'url': f'{hub.address}/{name}', 'name': name, 'id': '1'})
        if path == '/api/validate-yaml':
            return self.answer({'errors': [], 'warnings': []})
        if path.endswith('/info/lfs/objects/batch'):
            uploads = [
                one | {'actions': {'upload': {'href': f'{hub.address}/large/{one["oid"]}', 'header': {}}}}
                for one in json.loads(body)['objects']
            ]
            return self.answer({'transfer': 'basic', 'objects': uploads})
        if path.startswith('/large/'):
            hub.large[path.rpartition('/')[2]] = body
            return self.answer({})
        if path.startswith('/api/models/'):
            owner, name, what = (*path.removeprefix('/api/models/').split('/'), '')[:3]
            files = hub.repositories.get(f'{owner}/{name}')
            if files is None:
                return self.answer({'error': 'Repository not found'}, 404, 'RepoNotFound')
            return self.answer(self.about(f'{owner}/{name}', files, what, body))
        return self.answer({'error': 'not here'}, 404)

    do_GET = do_POST = do_PUT = do_any

    def about(self, repository: str, files: dict[str, bytes], what: str, body: bytes) -> object:
        """What the hub says about a repository."""
        if what == 'tree':
            return [{'type': 'file', 'path': path, 'size': len(one), 'oid': '0' * 40} for path, one in files.items()]
        if what == 'preupload':
            return {
                'files': [
                    {
                        'path': one['path'],
                        'uploadMode': 'lfs' if one['path'].endswith('.safetensors') else 'regular',
                        'shouldIgnore': False,
                        'oid': None,
                    }
                    for one in json.loads(body)['files']
                ]
            }
        if what == 'commit':
            for entry in map(json.loads, body.splitlines()):
                value = entry['value']
                if entry['key'] == 'file':
                    files[value['path']] = base64.b64decode(value['content'])
                elif entry['key'] == 'lfsFile':
                    files[value['path']] = self.server.large[value['oid']]
            return {
                'commitUrl': f'{self.server.address}/{repository}/commit/abc',
                'commitOid': 'a' * 40,
                'hookOutput': '',
            }
        return {'id': 'a/b', 'sha': 'a' * 40}

    def answer(self, content: object, status: int = 200, code: str = '') -> None:
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header('Content-Type', 'application/json')
        self.send_header('Content-Length', str(len(body)))
        if code:
            self.send_header('X-Error-Code', code)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        """Say nothing."""
