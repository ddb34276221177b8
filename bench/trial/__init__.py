"""One trial as its driver sees it: started, listened to, watched, ended, believed or not."""
