//! What the clocks of every IANA time zone show from 2026 on, by the tz database 2026f.
//!
//! Written by `tools/zones.py`, which is where to change it. `tools/check.sh` holds the two together.

use super::zone::{Clocks, Day};

const CASABLANCA: &[(u32, i16)] = &[
    (1771120800, 0), (1774144800, 60), (1789866000, 0),
];

const EDMONTON: &[(u32, i16)] = &[
    (1772960400, -360),
];

const HAVANA: &[(u32, i16)] = &[
    (1772946000, -240), (1825563600, -300),
];

const RAINY_RIVER: &[(u32, i16)] = &[
    (1772956800, -300),
];

const VANCOUVER: &[(u32, i16)] = &[
    (1772964000, -420),
];

const GAZA: &[(u32, i16)] = &[
    (1774656000, 180), (1792796400, 120), (1806105600, 180), (1824850800, 120), (1837555200, 180), (1856300400, 120),
    (1869004800, 180), (1887750000, 120), (1901059200, 180), (1919199600, 120), (1932508800, 180), (1950649200, 120),
    (1963958400, 180), (1982703600, 120), (1995408000, 180), (2014153200, 120), (2026857600, 180), (2045602800, 120),
    (2058307200, 180), (2077052400, 120), (2090361600, 180), (2107897200, 120), (2121811200, 180), (2138742000, 120),
    (2153260800, 180), (2168982000, 120), (2184710400, 180), (2199826800, 120), (2216160000, 180), (2230066800, 120),
    (2234304000, 180), (2234905200, 120), (2248214400, 180), (2260911600, 120), (2264544000, 180), (2266354800, 120),
    (2279664000, 180), (2291756400, 120), (2295388800, 180), (2297804400, 120), (2311113600, 180), (2321996400, 120),
    (2326233600, 180), (2329254000, 120), (2342563200, 180), (2352841200, 120), (2356473600, 180), (2361308400, 120),
    (2374012800, 180), (2383686000, 120), (2387318400, 180), (2392758000, 120), (2405462400, 180), (2413926000, 120),
    (2418163200, 180), (2424207600, 120), (2437516800, 180), (2444770800, 120), (2448403200, 180), (2455657200, 120),
    (2468966400, 180), (2475010800, 120), (2479248000, 180), (2487106800, 120), (2500416000, 180), (2505855600, 120),
    (2509488000, 180), (2519161200, 120), (2531865600, 180), (2536700400, 120), (2540332800, 180), (2550610800, 120),
    (2563315200, 180), (2566940400, 120), (2571177600, 180), (2582060400, 120), (2595369600, 180), (2597785200, 120),
    (2601417600, 180), (2613510000, 120), (2626819200, 180), (2628025200, 120), (2632262400, 180), (2644959600, 120),
    (2658268800, 180), (2658870000, 120), (2663107200, 180), (2676409200, 120), (2693347200, 180), (2708463600, 120),
    (2724192000, 180), (2739913200, 120), (2754432000, 180), (2771362800, 120), (2785276800, 180), (2802812400, 120),
    (2816121600, 180), (2834262000, 120), (2847571200, 180), (2866316400, 120), (2879020800, 180), (2897766000, 120),
    (2910470400, 180), (2929215600, 120), (2941920000, 180), (2960665200, 120), (2973974400, 180), (2992114800, 120),
    (3005424000, 180), (3023564400, 120), (3036873600, 180), (3055618800, 120), (3068323200, 180), (3087068400, 120),
    (3099772800, 180), (3117913200, 120), (3131827200, 180), (3148758000, 120), (3163276800, 180), (3179602800, 120),
    (3194726400, 180), (3209842800, 120), (3226176000, 180), (3240687600, 120), (3244320000, 180), (3244921200, 120),
    (3257625600, 180), (3271532400, 120), (3275164800, 180), (3276370800, 120), (3289075200, 180), (3301772400, 120),
    (3306009600, 180), (3307820400, 120), (3321129600, 180), (3332617200, 120), (3336249600, 180), (3339270000, 120),
    (3352579200, 180), (3362857200, 120), (3367094400, 180), (3370719600, 120), (3384028800, 180), (3393702000, 120),
    (3397939200, 180), (3402774000, 120), (3415478400, 180), (3424546800, 120), (3428179200, 180), (3434223600, 120),
    (3446928000, 180), (3454786800, 120), (3459024000, 180), (3465673200, 120), (3478982400, 180), (3485631600, 120),
    (3489264000, 180), (3497122800, 120), (3510432000, 180), (3516476400, 120), (3520108800, 180), (3528572400, 120),
    (3541881600, 180), (3546716400, 120), (3550953600, 180), (3560022000, 120), (3573331200, 180), (3577561200, 120),
    (3581193600, 180), (3592076400, 120), (3604780800, 180), (3607801200, 120), (3612038400, 180), (3623526000, 120),
    (3636230400, 180), (3638646000, 120), (3642883200, 180), (3654975600, 120), (3668284800, 180), (3669490800, 120),
    (3673123200, 180),
];

/// Clocks, and the names of the zones that have them.
pub(super) static ZONES: &[(Clocks, &str)] = &[
    // GMT0 = UTC0
    (Clocks::fixed(0), "\
        Africa/Abidjan Africa/Accra Africa/Bamako Africa/Banjul Africa/Bissau Africa/Conakry Africa/Dakar \
        Africa/Freetown Africa/Lome Africa/Monrovia Africa/Nouakchott Africa/Ouagadougou Africa/Sao_Tome \
        Africa/Timbuktu America/Danmarkshavn Atlantic/Reykjavik Atlantic/St_Helena Etc/GMT Etc/GMT+0 Etc/GMT-0 \
        Etc/GMT0 Etc/Greenwich Etc/UCT Etc/UTC Etc/Universal Etc/Zulu GMT GMT+0 GMT-0 GMT0 Greenwich Iceland UCT UTC \
        Universal Zulu"),
    // <+03>-3 = EAT-3 = MSK-3
    (Clocks::fixed(180), "\
        Africa/Addis_Ababa Africa/Asmara Africa/Asmera Africa/Dar_es_Salaam Africa/Djibouti Africa/Kampala \
        Africa/Mogadishu Africa/Nairobi Antarctica/Syowa Asia/Aden Asia/Amman Asia/Baghdad Asia/Bahrain Asia/Damascus \
        Asia/Istanbul Asia/Kuwait Asia/Qatar Asia/Riyadh Etc/GMT-3 Europe/Istanbul Europe/Kirov Europe/Minsk \
        Europe/Moscow Europe/Simferopol Europe/Volgograd Indian/Antananarivo Indian/Comoro Indian/Mayotte Turkey W-SU"),
    // <+01>-1 = CET-1 = WAT-1
    (Clocks::fixed(60), "\
        Africa/Algiers Africa/Bangui Africa/Brazzaville Africa/Douala Africa/Kinshasa Africa/Lagos Africa/Libreville \
        Africa/Luanda Africa/Malabo Africa/Ndjamena Africa/Niamey Africa/Porto-Novo Africa/Tunis Etc/GMT-1"),
    // <+02>-2 = CAT-2 = EET-2 = SAST-2
    (Clocks::fixed(120), "\
        Africa/Blantyre Africa/Bujumbura Africa/Gaborone Africa/Harare Africa/Johannesburg Africa/Juba Africa/Khartoum \
        Africa/Kigali Africa/Lubumbashi Africa/Lusaka Africa/Maputo Africa/Maseru Africa/Mbabane Africa/Tripoli \
        Africa/Windhoek Etc/GMT-2 Europe/Kaliningrad Libya"),
    // EET-2EEST,M4.5.5/0,M10.5.4/24
    (Clocks::summer(120, Day::new(4, 5, 5, 0), 180, Day::new(10, 5, 4, 1440)), "Africa/Cairo Egypt"),
    // <+00>0
    (Clocks::fixed(0).after(60, CASABLANCA), "Africa/Casablanca Africa/El_Aaiun"),
    // CET-1CEST,M3.5.0,M10.5.0/3
    (Clocks::summer(60, Day::new(3, 5, 0, 120), 120, Day::new(10, 5, 0, 180)), "\
        Africa/Ceuta Arctic/Longyearbyen Atlantic/Jan_Mayen CET Europe/Amsterdam Europe/Andorra Europe/Belgrade \
        Europe/Berlin Europe/Bratislava Europe/Brussels Europe/Budapest Europe/Busingen Europe/Copenhagen \
        Europe/Gibraltar Europe/Ljubljana Europe/Luxembourg Europe/Madrid Europe/Malta Europe/Monaco Europe/Oslo \
        Europe/Paris Europe/Podgorica Europe/Prague Europe/Rome Europe/San_Marino Europe/Sarajevo Europe/Skopje \
        Europe/Stockholm Europe/Tirane Europe/Vaduz Europe/Vatican Europe/Vienna Europe/Warsaw Europe/Zagreb \
        Europe/Zurich MET Poland"),
    // HST10HDT,M3.2.0,M11.1.0
    (Clocks::summer(-600, Day::new(3, 2, 0, 120), -540, Day::new(11, 1, 0, 120)), "\
        America/Adak America/Atka US/Aleutian"),
    // AKST9AKDT,M3.2.0,M11.1.0
    (Clocks::summer(-540, Day::new(3, 2, 0, 120), -480, Day::new(11, 1, 0, 120)), "\
        America/Anchorage America/Juneau America/Metlakatla America/Nome America/Sitka America/Yakutat US/Alaska"),
    // <-04>4 = AST4
    (Clocks::fixed(-240), "\
        America/Anguilla America/Antigua America/Aruba America/Barbados America/Blanc-Sablon America/Boa_Vista \
        America/Campo_Grande America/Caracas America/Cuiaba America/Curacao America/Dominica America/Grenada \
        America/Guadeloupe America/Guyana America/Kralendijk America/La_Paz America/Lower_Princes America/Manaus \
        America/Marigot America/Martinique America/Montserrat America/Port_of_Spain America/Porto_Velho \
        America/Puerto_Rico America/Santo_Domingo America/St_Barthelemy America/St_Kitts America/St_Lucia \
        America/St_Thomas America/St_Vincent America/Tortola America/Virgin Brazil/West Etc/GMT+4"),
    // <-03>3
    (Clocks::fixed(-180), "\
        America/Araguaina America/Argentina/Buenos_Aires America/Argentina/Catamarca America/Argentina/ComodRivadavia \
        America/Argentina/Cordoba America/Argentina/Jujuy America/Argentina/La_Rioja America/Argentina/Mendoza \
        America/Argentina/Rio_Gallegos America/Argentina/Salta America/Argentina/San_Juan America/Argentina/San_Luis \
        America/Argentina/Tucuman America/Argentina/Ushuaia America/Asuncion America/Bahia America/Belem \
        America/Buenos_Aires America/Catamarca America/Cayenne America/Cordoba America/Coyhaique America/Fortaleza \
        America/Jujuy America/Maceio America/Mendoza America/Montevideo America/Paramaribo America/Punta_Arenas \
        America/Recife America/Rosario America/Santarem America/Sao_Paulo Antarctica/Palmer Antarctica/Rothera \
        Atlantic/Stanley Brazil/East Etc/GMT+3"),
    // <-05>5 = EST5
    (Clocks::fixed(-300), "\
        America/Atikokan America/Bogota America/Cancun America/Cayman America/Coral_Harbour America/Eirunepe \
        America/Guayaquil America/Jamaica America/Lima America/Panama America/Porto_Acre America/Rio_Branco \
        Brazil/Acre EST Etc/GMT+5 Jamaica"),
    // <-06>6 = CST6
    (Clocks::fixed(-360), "\
        America/Bahia_Banderas America/Belize America/Chihuahua America/Costa_Rica America/El_Salvador \
        America/Guatemala America/Managua America/Merida America/Mexico_City America/Monterrey America/Regina \
        America/Swift_Current America/Tegucigalpa Canada/Saskatchewan Etc/GMT+6 Mexico/General Pacific/Galapagos"),
    // MST7MDT,M3.2.0,M11.1.0
    (Clocks::summer(-420, Day::new(3, 2, 0, 120), -360, Day::new(11, 1, 0, 120)), "\
        America/Boise America/Cambridge_Bay America/Ciudad_Juarez America/Denver America/Shiprock MST7MDT Navajo \
        US/Mountain"),
    // CST6CDT,M3.2.0,M11.1.0
    (Clocks::summer(-360, Day::new(3, 2, 0, 120), -300, Day::new(11, 1, 0, 120)), "\
        America/Chicago America/Indiana/Knox America/Indiana/Tell_City America/Knox_IN America/Matamoros \
        America/Menominee America/North_Dakota/Beulah America/North_Dakota/Center America/North_Dakota/New_Salem \
        America/Ojinaga America/Rankin_Inlet America/Resolute CST6CDT US/Central US/Indiana-Starke"),
    // <-07>7 = MST7
    (Clocks::fixed(-420), "\
        America/Creston America/Dawson America/Dawson_Creek America/Fort_Nelson America/Hermosillo America/Mazatlan \
        America/Phoenix America/Whitehorse Canada/Yukon Etc/GMT+7 MST Mexico/BajaSur US/Arizona"),
    // EST5EDT,M3.2.0,M11.1.0
    (Clocks::summer(-300, Day::new(3, 2, 0, 120), -240, Day::new(11, 1, 0, 120)), "\
        America/Detroit America/Fort_Wayne America/Grand_Turk America/Indiana/Indianapolis America/Indiana/Marengo \
        America/Indiana/Petersburg America/Indiana/Vevay America/Indiana/Vincennes America/Indiana/Winamac \
        America/Indianapolis America/Iqaluit America/Kentucky/Louisville America/Kentucky/Monticello \
        America/Louisville America/Montreal America/Nassau America/New_York America/Nipigon America/Pangnirtung \
        America/Port-au-Prince America/Thunder_Bay America/Toronto Canada/Eastern EST5EDT US/East-Indiana US/Eastern \
        US/Michigan"),
    // CST6
    (Clocks::fixed(-360).after(-420, EDMONTON), "America/Edmonton America/Inuvik America/Yellowknife Canada/Mountain"),
    // PST8PDT,M3.2.0,M11.1.0
    (Clocks::summer(-480, Day::new(3, 2, 0, 120), -420, Day::new(11, 1, 0, 120)), "\
        America/Ensenada America/Los_Angeles America/Santa_Isabel America/Tijuana Mexico/BajaNorte PST8PDT US/Pacific"),
    // AST4ADT,M3.2.0,M11.1.0
    (Clocks::summer(-240, Day::new(3, 2, 0, 120), -180, Day::new(11, 1, 0, 120)), "\
        America/Glace_Bay America/Goose_Bay America/Halifax America/Moncton America/Thule Atlantic/Bermuda \
        Canada/Atlantic"),
    // <-02>2<-01>,M3.5.0/-1,M10.5.0/0
    (Clocks::summer(-120, Day::new(3, 5, 0, -60), -60, Day::new(10, 5, 0, 0)), "\
        America/Godthab America/Nuuk America/Scoresbysund"),
    // CST5CDT,M3.2.0/0,M11.1.0/1
    (Clocks::summer(-300, Day::new(3, 2, 0, 0), -240, Day::new(11, 1, 0, 60)).after(-300, HAVANA), "\
        America/Havana Cuba"),
    // <-03>3<-02>,M3.2.0,M11.1.0
    (Clocks::summer(-180, Day::new(3, 2, 0, 120), -120, Day::new(11, 1, 0, 120)), "America/Miquelon"),
    // <-02>2
    (Clocks::fixed(-120), "America/Noronha Atlantic/South_Georgia Brazil/DeNoronha Etc/GMT+2"),
    // EST5
    (Clocks::fixed(-300).after(-360, RAINY_RIVER), "America/Rainy_River America/Winnipeg Canada/Central"),
    // <-04>4<-03>,M9.1.6/24,M4.1.6/24
    (Clocks::summer(-240, Day::new(9, 1, 6, 1440), -180, Day::new(4, 1, 6, 1440)), "\
        America/Santiago Chile/Continental"),
    // NST3:30NDT,M3.2.0,M11.1.0
    (Clocks::summer(-210, Day::new(3, 2, 0, 120), -150, Day::new(11, 1, 0, 120)), "\
        America/St_Johns Canada/Newfoundland"),
    // MST7
    (Clocks::fixed(-420).after(-480, VANCOUVER), "America/Vancouver Canada/Pacific"),
    // <+08>-8 = AWST-8 = CST-8 = HKT-8 = PST-8 = WITA-8
    (Clocks::fixed(480), "\
        Antarctica/Casey Asia/Brunei Asia/Choibalsan Asia/Chongqing Asia/Chungking Asia/Harbin Asia/Hong_Kong \
        Asia/Irkutsk Asia/Kuala_Lumpur Asia/Kuching Asia/Macao Asia/Macau Asia/Makassar Asia/Manila Asia/Shanghai \
        Asia/Singapore Asia/Taipei Asia/Ujung_Pandang Asia/Ulaanbaatar Asia/Ulan_Bator Australia/Perth Australia/West \
        Etc/GMT-8 Hongkong PRC ROC Singapore"),
    // <+07>-7 = WIB-7
    (Clocks::fixed(420), "\
        Antarctica/Davis Asia/Bangkok Asia/Barnaul Asia/Ho_Chi_Minh Asia/Hovd Asia/Jakarta Asia/Krasnoyarsk \
        Asia/Novokuznetsk Asia/Novosibirsk Asia/Phnom_Penh Asia/Pontianak Asia/Saigon Asia/Tomsk Asia/Vientiane \
        Etc/GMT-7 Indian/Christmas"),
    // <+10>-10 = AEST-10 = ChST-10
    (Clocks::fixed(600), "\
        Antarctica/DumontDUrville Asia/Ust-Nera Asia/Vladivostok Australia/Brisbane Australia/Lindeman \
        Australia/Queensland Etc/GMT-10 Pacific/Chuuk Pacific/Guam Pacific/Port_Moresby Pacific/Saipan Pacific/Truk \
        Pacific/Yap"),
    // AEST-10AEDT,M10.1.0,M4.1.0/3
    (Clocks::summer(600, Day::new(10, 1, 0, 120), 660, Day::new(4, 1, 0, 180)), "\
        Antarctica/Macquarie Australia/ACT Australia/Canberra Australia/Currie Australia/Hobart Australia/Melbourne \
        Australia/NSW Australia/Sydney Australia/Tasmania Australia/Victoria"),
    // <+05>-5 = PKT-5
    (Clocks::fixed(300), "\
        Antarctica/Mawson Antarctica/Vostok Asia/Almaty Asia/Aqtau Asia/Aqtobe Asia/Ashgabat Asia/Ashkhabad \
        Asia/Atyrau Asia/Dushanbe Asia/Karachi Asia/Oral Asia/Qostanay Asia/Qyzylorda Asia/Samarkand Asia/Tashkent \
        Asia/Yekaterinburg Etc/GMT-5 Indian/Kerguelen Indian/Maldives"),
    // NZST-12NZDT,M9.5.0,M4.1.0/3
    (Clocks::summer(720, Day::new(9, 5, 0, 120), 780, Day::new(4, 1, 0, 180)), "\
        Antarctica/McMurdo Antarctica/South_Pole NZ Pacific/Auckland"),
    // <+00>0<+02>-2,M3.5.0/1,M10.5.0/3
    (Clocks::summer(0, Day::new(3, 5, 0, 60), 120, Day::new(10, 5, 0, 180)), "Antarctica/Troll"),
    // <+12>-12
    (Clocks::fixed(720), "\
        Asia/Anadyr Asia/Kamchatka Etc/GMT-12 Kwajalein Pacific/Fiji Pacific/Funafuti Pacific/Kwajalein Pacific/Majuro \
        Pacific/Nauru Pacific/Tarawa Pacific/Wake Pacific/Wallis"),
    // <+04>-4
    (Clocks::fixed(240), "\
        Asia/Baku Asia/Dubai Asia/Muscat Asia/Tbilisi Asia/Yerevan Etc/GMT-4 Europe/Astrakhan Europe/Samara \
        Europe/Saratov Europe/Ulyanovsk Indian/Mahe Indian/Mauritius Indian/Reunion"),
    // EET-2EEST,M3.5.0/0,M10.5.0/0
    (Clocks::summer(120, Day::new(3, 5, 0, 0), 180, Day::new(10, 5, 0, 0)), "Asia/Beirut"),
    // <+06>-6
    (Clocks::fixed(360), "\
        Asia/Bishkek Asia/Dacca Asia/Dhaka Asia/Kashgar Asia/Omsk Asia/Thimbu Asia/Thimphu Asia/Urumqi Etc/GMT-6 \
        Indian/Chagos"),
    // <+0530>-5:30 = IST-5:30
    (Clocks::fixed(330), "Asia/Calcutta Asia/Colombo Asia/Kolkata"),
    // <+09>-9 = JST-9 = KST-9 = WIT-9
    (Clocks::fixed(540), "\
        Asia/Chita Asia/Dili Asia/Jayapura Asia/Khandyga Asia/Pyongyang Asia/Seoul Asia/Tokyo Asia/Yakutsk Etc/GMT-9 \
        Japan Pacific/Palau ROK"),
    // EET-2EEST,M3.5.0/3,M10.5.0/4
    (Clocks::summer(120, Day::new(3, 5, 0, 180), 180, Day::new(10, 5, 0, 240)), "\
        Asia/Famagusta Asia/Nicosia EET Europe/Athens Europe/Bucharest Europe/Chisinau Europe/Helsinki Europe/Kiev \
        Europe/Kyiv Europe/Mariehamn Europe/Nicosia Europe/Riga Europe/Sofia Europe/Tallinn Europe/Tiraspol \
        Europe/Uzhgorod Europe/Vilnius Europe/Zaporozhye"),
    // EET-2EEST,M3.4.4/50,M10.4.4/50
    (Clocks::summer(120, Day::new(3, 4, 4, 3000), 180, Day::new(10, 4, 4, 3000)).after(120, GAZA), "\
        Asia/Gaza Asia/Hebron"),
    // IST-2IDT,M3.4.4/26,M10.5.0
    (Clocks::summer(120, Day::new(3, 4, 4, 1560), 180, Day::new(10, 5, 0, 120)), "Asia/Jerusalem Asia/Tel_Aviv Israel"),
    // <+0430>-4:30
    (Clocks::fixed(270), "Asia/Kabul"),
    // <+0545>-5:45
    (Clocks::fixed(345), "Asia/Kathmandu Asia/Katmandu"),
    // <+11>-11
    (Clocks::fixed(660), "\
        Asia/Magadan Asia/Sakhalin Asia/Srednekolymsk Etc/GMT-11 Pacific/Bougainville Pacific/Efate \
        Pacific/Guadalcanal Pacific/Kosrae Pacific/Noumea Pacific/Pohnpei Pacific/Ponape"),
    // <+0630>-6:30
    (Clocks::fixed(390), "Asia/Rangoon Asia/Yangon Indian/Cocos"),
    // <+0330>-3:30
    (Clocks::fixed(210), "Asia/Tehran Iran"),
    // <-01>1<+00>,M3.5.0/0,M10.5.0/1
    (Clocks::summer(-60, Day::new(3, 5, 0, 0), 0, Day::new(10, 5, 0, 60)), "Atlantic/Azores"),
    // GMT0BST,M3.5.0/1,M10.5.0 = WET0WEST,M3.5.0/1,M10.5.0
    (Clocks::summer(0, Day::new(3, 5, 0, 60), 60, Day::new(10, 5, 0, 120)), "\
        Atlantic/Canary Atlantic/Faeroe Atlantic/Faroe Atlantic/Madeira Europe/Belfast Europe/Guernsey \
        Europe/Isle_of_Man Europe/Jersey Europe/Lisbon Europe/London GB GB-Eire Portugal WET"),
    // <-01>1
    (Clocks::fixed(-60), "Atlantic/Cape_Verde Etc/GMT+1"),
    // ACST-9:30ACDT,M10.1.0,M4.1.0/3
    (Clocks::summer(570, Day::new(10, 1, 0, 120), 630, Day::new(4, 1, 0, 180)), "\
        Australia/Adelaide Australia/Broken_Hill Australia/South Australia/Yancowinna"),
    // ACST-9:30
    (Clocks::fixed(570), "Australia/Darwin Australia/North"),
    // <+0845>-8:45
    (Clocks::fixed(525), "Australia/Eucla"),
    // <+1030>-10:30<+11>-11,M10.1.0,M4.1.0
    (Clocks::summer(630, Day::new(10, 1, 0, 120), 660, Day::new(4, 1, 0, 120)), "Australia/LHI Australia/Lord_Howe"),
    // <-06>6<-05>,M9.1.6/22,M4.1.6/22
    (Clocks::summer(-360, Day::new(9, 1, 6, 1320), -300, Day::new(4, 1, 6, 1320)), "Chile/EasterIsland Pacific/Easter"),
    // IST-1GMT0,M10.5.0,M3.5.0/1
    (Clocks::summer(60, Day::new(10, 5, 0, 120), 0, Day::new(3, 5, 0, 60)), "Eire Europe/Dublin"),
    // <-10>10 = HST10
    (Clocks::fixed(-600), "\
        Etc/GMT+10 HST Pacific/Honolulu Pacific/Johnston Pacific/Rarotonga Pacific/Tahiti US/Hawaii"),
    // <-11>11 = SST11
    (Clocks::fixed(-660), "Etc/GMT+11 Pacific/Midway Pacific/Niue Pacific/Pago_Pago Pacific/Samoa US/Samoa"),
    // <-12>12
    (Clocks::fixed(-720), "Etc/GMT+12"),
    // <-08>8
    (Clocks::fixed(-480), "Etc/GMT+8 Pacific/Pitcairn"),
    // <-09>9
    (Clocks::fixed(-540), "Etc/GMT+9 Pacific/Gambier"),
    // <+13>-13
    (Clocks::fixed(780), "Etc/GMT-13 Pacific/Apia Pacific/Enderbury Pacific/Fakaofo Pacific/Kanton Pacific/Tongatapu"),
    // <+14>-14
    (Clocks::fixed(840), "Etc/GMT-14 Pacific/Kiritimati"),
    // <+1245>-12:45<+1345>,M9.5.0/2:45,M4.1.0/3:45
    (Clocks::summer(765, Day::new(9, 5, 0, 165), 825, Day::new(4, 1, 0, 225)), "NZ-CHAT Pacific/Chatham"),
    // <-0930>9:30
    (Clocks::fixed(-570), "Pacific/Marquesas"),
    // <+11>-11<+12>,M10.1.0,M4.1.0/3
    (Clocks::summer(660, Day::new(10, 1, 0, 120), 720, Day::new(4, 1, 0, 180)), "Pacific/Norfolk"),
];
