"""A module that no fork server may preload: importing it leaves a thread behind."""

import threading
import time

threading.Thread(target=time.sleep, args=(60,), daemon=True).start()
