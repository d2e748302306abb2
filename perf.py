import sys,time,random,tempfile,resource,tracemalloc
from pathlib import Path
from drift.store import Store
from drift.records import Conversation, Message
from drift.logs.near_duplicates import find_near_duplicates
mode=sys.argv[1]; N=int(sys.argv[2]); mem=len(sys.argv)>3
W=[f"w{i}" for i in range(400)]
def gen():
    r=random.Random(1)
    if mode=="distinct":
        for i in range(N):
            t=[" ".join(r.choices(W,k=15)) for _ in range(4)]
            yield f"{r.getrandbits(128):032x}",t,None
    if mode=="grown":
        for i in range(N//10):
            t=[" ".join(r.choices(W,k=15)) for _ in range(40)]
            for k in range(10): yield f"{r.getrandbits(128):032x}",t[:22+2*k],None
    if mode=="same":
        t=[" ".join(r.choices(W,k=15)) for _ in range(4)]
        for i in range(N): yield f"{r.getrandbits(128):032x}",t,None
d=tempfile.mkdtemp()
s=Store(Path(d)/"s")
s.add([Conversation(n,"test",None,tuple(Message(("user","assistant")[i%2],x) for i,x in enumerate(t)),"train",family=f) for n,t,f in gen()])
if mem: tracemalloc.start()
t0=time.process_time(); w=time.time()
r=find_near_duplicates(s)
print(mode,N,r.near_duplicates,"cpu",round(time.process_time()-t0,2),"wall",round(time.time()-w,2), "peakMB", round(tracemalloc.get_traced_memory()[1]/1e6,1) if mem else "")
