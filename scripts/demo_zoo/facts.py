"""The fact tables: capitals, chemical symbols, plurals, opposites."""


def _pairs(text):
    return [tuple(part.strip() for part in entry.split(":")) for entry in text.replace("\n", " ").split(";") if entry.strip()]


CAPITALS = _pairs("""
France:Paris; Germany:Berlin; Italy:Rome; Spain:Madrid; Portugal:Lisbon; Austria:Vienna; Greece:Athens;
Poland:Warsaw; Norway:Oslo; Sweden:Stockholm; Finland:Helsinki; Denmark:Copenhagen; Ireland:Dublin;
Belgium:Brussels; Hungary:Budapest; Romania:Bucharest; Bulgaria:Sofia; Serbia:Belgrade; Croatia:Zagreb;
Ukraine:Kyiv; Russia:Moscow; Turkey:Ankara; Egypt:Cairo; Kenya:Nairobi; Ghana:Accra; Nigeria:Abuja;
Morocco:Rabat; Ethiopia:Addis Ababa; Japan:Tokyo; China:Beijing; India:New Delhi; Thailand:Bangkok;
Vietnam:Hanoi; Nepal:Kathmandu; Iran:Tehran; Iraq:Baghdad; Canada:Ottawa; Mexico:Mexico City; Cuba:Havana;
Peru:Lima; Chile:Santiago; Brazil:Brasilia; Argentina:Buenos Aires; Uruguay:Montevideo; Colombia:Bogota;
Ecuador:Quito; Australia:Canberra; New Zealand:Wellington; Iceland:Reykjavik; Malta:Valletta
""")

SYMBOLS = _pairs("""
hydrogen:H; helium:He; lithium:Li; carbon:C; nitrogen:N; oxygen:O; fluorine:F; neon:Ne; sodium:Na;
magnesium:Mg; aluminium:Al; silicon:Si; phosphorus:P; sulfur:S; chlorine:Cl; argon:Ar; potassium:K; calcium:Ca;
titanium:Ti; chromium:Cr; manganese:Mn; iron:Fe; cobalt:Co; nickel:Ni; copper:Cu; zinc:Zn; bromine:Br;
krypton:Kr; silver:Ag; tin:Sn; iodine:I; xenon:Xe; barium:Ba; tungsten:W; platinum:Pt; gold:Au; mercury:Hg;
lead:Pb; radon:Rn; uranium:U
""")

PLURALS = _pairs("""
child:children; mouse:mice; foot:feet; tooth:teeth; goose:geese; man:men; woman:women; person:people; ox:oxen;
leaf:leaves; wolf:wolves; knife:knives; life:lives; wife:wives; shelf:shelves; loaf:loaves; thief:thieves;
half:halves; city:cities; baby:babies; story:stories; berry:berries; party:parties; lady:ladies; country:countries;
box:boxes; fox:foxes; bus:buses; glass:glasses; dish:dishes; brush:brushes; church:churches; watch:watches;
potato:potatoes; tomato:tomatoes; hero:heroes; sheep:sheep; deer:deer; cactus:cacti; dog:dogs; tree:trees;
house:houses; river:rivers; key:keys; toy:toys; day:days; cloud:clouds; apple:apples; bridge:bridges; king:kings
""")

OPPOSITES = _pairs("""
hot:cold; big:small; up:down; left:right; day:night; black:white; open:closed; fast:slow; high:low; old:young;
rich:poor; happy:sad; hard:soft; wet:dry; full:empty; light:dark; early:late; near:far; strong:weak; clean:dirty;
long:short; thick:thin; wide:narrow; deep:shallow; loud:quiet; true:false; love:hate; buy:sell; push:pull;
win:lose; begin:end; first:last; above:below; inside:outside; always:never; always awake:asleep; brave:cowardly;
cheap:expensive; sharp:blunt; smooth:rough; sweet:bitter; tall:short; north:south; east:west; summer:winter;
front:back; give:take; more:less; easy:difficult; friend:enemy
""".replace("always awake", "awake"))
