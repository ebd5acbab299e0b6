"""The app's steps by a program: upload, click, track, remove, download. Needs `pip install gradio_client` alone.

python app/client_example.py http://127.0.0.1:12346 data/demo/video.mp4 removed.mp4 [--auth NAME:PASSWORD]
"""

import argparse
import shutil
import time

from gradio_client import Client, handle_file


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("address")
    parser.add_argument("video")
    parser.add_argument("output")
    parser.add_argument("--box", default="200,70,310,190", help="round the object in frame 0: X0,Y0,X1,Y1")
    parser.add_argument("--auth", help="NAME:PASSWORD, where the app asks for them")
    options = parser.parse_args()

    auth = tuple(options.auth.split(":", 1)) if options.auth else None
    app = Client(options.address, auth=auth, verbose=False)
    project = app.predict(api_name="/new_project")
    video = app.predict(project, handle_file(options.video), api_name="/set_video")
    print(f"{video['frames']} frames of {video['width']}x{video['height']}")

    app.predict(project, 1, 0, *map(float, options.box.split(",")), api_name="/add_box")
    wait(app, project, app.predict(project, "track", api_name="/submit"))
    app.predict(project, 16, api_name="/set_shape")
    settings = {"task": "remove", "steps": 4, "guidance": 1.0}
    print(app.predict(project, settings, api_name="/plan"))
    wait(app, project, app.predict(project, "fill", settings, api_name="/submit"))

    result = app.predict(project, api_name="/results")[-1]
    shutil.copy(result["video"], options.output)
    print(options.output)


def wait(app: Client, project: str, job: str) -> None:
    """Until a job has ended; SystemExit where it was not done."""
    while True:
        found = app.predict(project, job, api_name="/status")
        if found["state"] not in ("waiting", "running"):
            break
        print(f"{found['kind']}: {found['state']}, {found['done']} of {found['total']}")
        time.sleep(1)
    if found["state"] != "done":
        raise SystemExit(f"{found['kind']}: {found['state']}, {found['message']}")


if __name__ == "__main__":
    main()
