# What Python programs usually need of their surroundings.
import asyncio, concurrent.futures, datetime, multiprocessing, os, sqlite3, ssl, subprocess, sys, tempfile, threading
import zoneinfo
from multiprocessing import shared_memory


def square(number):
    return number * number


async def child():
    process = await asyncio.create_subprocess_exec("/bin/sh", "-c", "exit 7")
    return await process.wait()


def main():
    with multiprocessing.Pool(2) as pool:
        print("pool", pool.map(square, range(4)))
    with concurrent.futures.ProcessPoolExecutor(2) as executor:
        print("executor", sum(executor.map(abs, [-1, -2, -3])))
    with multiprocessing.Manager() as manager:
        shared = manager.list()
        shared.append(1)
        print("manager", list(shared))
    memory = shared_memory.SharedMemory(create=True, size=10)
    memory.buf[0] = ord("x")
    print("shared", bytes(memory.buf[:1]))
    memory.close()
    memory.unlink()
    print("asyncio", asyncio.run(child()))
    with sqlite3.connect("base") as base:
        base.execute("pragma journal_mode = wal")
        base.execute("create table t (a)")
        base.executemany("insert into t values (?)", [(1,), (2,), (3,)])
        print("sqlite", base.execute("select count(*) from t").fetchone()[0])
    print("certificates", len(ssl.create_default_context().get_ca_certs()) > 20)
    print("subprocess", subprocess.run(["sh", "-c", "exit 5"]).returncode)
    counted = []
    threads = [threading.Thread(target=counted.append, args=(number,)) for number in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    print("threads", len(counted))
    print("time zone", zoneinfo.ZoneInfo("Asia/Tokyo").utcoffset(datetime.datetime(2000, 1, 1)))
    with tempfile.NamedTemporaryFile() as file:
        print("temporary", os.path.dirname(file.name))
    try:
        import numpy
        assert numpy.linalg.norm(numpy.ones((4, 4)) @ numpy.ones((4, 4))) == 16
    except ImportError:
        pass
    print("numpy ok")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", "venv"], check=True)
    print(subprocess.run(["venv/bin/python", "-c", "print('venv ok')"], capture_output=True, text=True).stdout, end="")


if __name__ == "__main__":
    main()
